// A pointer into a block is resized.
//
// default: interior pointer: ADDRESS lies 8 bytes into a block of 48 bytes, in use
// check: interior pointer: ADDRESS lies 8 bytes into a block of 48 bytes, in use

#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  return realloc(block + 8, 1000) == NULL;
}
