// An aligned block is freed twice.
//
// default: double free: ADDRESS is a block of 128 bytes, free already
// check: double free: ADDRESS is a block of 100 bytes, free already

#include <stdlib.h>

int main(void) {
  char *block = aligned_alloc(128, 100);
  free(block);
  free(block);
}
