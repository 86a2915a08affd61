// A freed large block is written.
//
// default: nothing
// check: write after free: ADDRESS is a block of 300000 bytes, free already, and byte 70000 of it was changed

#include <stdlib.h>

int main(void) {
  char *block = malloc(300000);
  free(block);
  block[70000] = 0;
}
