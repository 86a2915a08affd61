// The byte behind a huge block is written.
//
// default: nothing
// check: overflow: ADDRESS is a block of 5000000 bytes, in use, and byte 5000000 of it was changed

#include <stdlib.h>

int main(void) {
  char *block = malloc(5000000);
  block[5000000] = 0;
  free(block);
}
