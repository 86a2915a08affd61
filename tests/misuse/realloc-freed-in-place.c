// A freed block is resized to what it already is; by default the block that was freed last is known.
//
// default: double free: ADDRESS is a block of 48 bytes, free already
// check: use after free: ADDRESS is a block of 48 bytes, free already

#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  free(block);
  return realloc(block, 40) == NULL;
}
