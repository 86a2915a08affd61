// A freed block is resized; by default the free within realloc notices.
//
// default: double free: ADDRESS is a block of 48 bytes, free already
// check: use after free: ADDRESS is a block of 48 bytes, free already

#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  free(block);
  return realloc(block, 1000) == NULL;
}
