// The address behind a block is freed, at which the next one may start.
//
// default: double free: ADDRESS is a block of 48 bytes, free already
// check: interior pointer: ADDRESS lies 48 bytes into a block of 48 bytes, in use

#include <malloc.h>
#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  free(block + 48);
  malloc_trim(0);
}
