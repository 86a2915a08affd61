// A pointer into a block is resized to less than is left of it.
//
// default: interior pointer: ADDRESS lies 16 bytes into a block of 48 bytes, in use
// check: interior pointer: ADDRESS lies 16 bytes into a block of 48 bytes, in use

#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  return realloc(block + 16, 40) == NULL;
}
