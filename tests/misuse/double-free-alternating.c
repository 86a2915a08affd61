// A block is freed twice, and another in between; by default the flush notices.
//
// default: double free: ADDRESS is a block of 48 bytes, free already
// check: double free: ADDRESS is a block of 48 bytes, free already

#include <malloc.h>
#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  char *other = malloc(48);
  free(block);
  free(other);
  free(block);
  malloc_trim(0);
}
