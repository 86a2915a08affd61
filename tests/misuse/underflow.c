// The byte before a block is written.
//
// default: nothing
// check: underflow: ADDRESS is a block of 48 bytes, in use, and byte -1 of it was changed

#include <stdlib.h>

int main(void) {
  char *first = malloc(48);
  char *block = malloc(48);
  block[-1] = 0;
  free(block);
  free(first);
}
