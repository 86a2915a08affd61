// A block is freed twice at once.
//
// default: double free: ADDRESS is a block of 48 bytes, free already
// check: double free: ADDRESS is a block of 48 bytes, free already

#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  free(block);
  free(block);
}
