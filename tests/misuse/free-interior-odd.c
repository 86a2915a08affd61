// A pointer is freed that no block could have; by default the flush notices.
//
// default: interior pointer: ADDRESS lies 1 byte into a block of 48 bytes, in use
// check: interior pointer: ADDRESS lies 1 byte into a block of 48 bytes, in use

#include <malloc.h>
#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  free(block + 1);
  malloc_trim(0);
}
