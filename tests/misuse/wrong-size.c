// A block is freed with a size that it does not have.
//
// default: nothing
// check: wrong size: ADDRESS is a block of 48 bytes, in use, freed as one of 40 bytes

#include <stdlib.h>

extern void free_sized(void *block, size_t size) __attribute__((weak));

int main(void) {
  char *block = malloc(48);
  free_sized(block, 40);
}
