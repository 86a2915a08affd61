// A block is freed again after a flush; by default the next flush notices.
//
// default: double free: ADDRESS is a block of 48 bytes, free already
// check: double free: ADDRESS is a block of 48 bytes, free already

#include <malloc.h>
#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  char *kept = malloc(48);
  free(block);
  malloc_trim(0);
  free(block);
  malloc_trim(0);
  free(kept);
}
