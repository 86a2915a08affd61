// A block is freed that realloc has moved.
//
// default: double free: ADDRESS is a block of 48 bytes, free already
// check: double free: ADDRESS is a block of 48 bytes, free already

#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  char *moved = realloc(block, 1000);
  free(block);
  free(moved);
}
