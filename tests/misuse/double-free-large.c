// A large block is freed twice.
//
// default: double free: ADDRESS is a block of unknown size, free already
// check: double free: ADDRESS is a block of 300000 bytes, free already

#include <stdlib.h>

int main(void) {
  char *block = malloc(300000);
  free(block);
  free(block);
}
