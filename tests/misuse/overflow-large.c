// The byte behind a large block is written.
//
// default: nothing
// check: overflow: ADDRESS is a block of 300000 bytes, in use, and byte 300000 of it was changed

#include <stdlib.h>

int main(void) {
  char *block = malloc(300000);
  block[300000] = 0;
  free(block);
}
