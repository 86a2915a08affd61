// A pointer into a block is freed; by default the flush notices.
//
// default: interior pointer: ADDRESS lies 16 bytes into a block of 48 bytes, in use
// check: interior pointer: ADDRESS lies 16 bytes into a block of 48 bytes, in use

#include <malloc.h>
#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  free(block + 16);
  malloc_trim(0);
}
