// A block is freed with an alignment that it was not asked for with.
//
// default: nothing
// check: wrong alignment: ADDRESS is a block of 128 bytes, in use, freed as one aligned to 64

#include <stdlib.h>

extern void free_aligned_sized(void *block, size_t alignment, size_t size) __attribute__((weak));

int main(void) {
  char *block = aligned_alloc(128, 128);
  free_aligned_sized(block, 64, 128);
}
