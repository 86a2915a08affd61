// A pointer into a large block is freed.
//
// default: interior pointer: ADDRESS lies 65536 bytes into a block of 327680 bytes, in use
// check: interior pointer: ADDRESS lies 65536 bytes into a block of 300000 bytes, in use

#include <stdlib.h>

int main(void) {
  char *block = malloc(300000);
  free(block + 65536);
}
