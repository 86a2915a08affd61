// The byte behind a block is written.
//
// default: nothing
// check: overflow: ADDRESS is a block of 48 bytes, in use, and byte 48 of it was changed

#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  block[48] = 0;
  free(block);
}
