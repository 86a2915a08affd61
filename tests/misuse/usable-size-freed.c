// The size of a freed block is asked for.
//
// default: nothing
// check: use after free: ADDRESS is a block of 48 bytes, free already

#include <malloc.h>
#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  free(block);
  return malloc_usable_size(block) == 0;
}
