// A huge block is freed twice. One above 72 MiB goes back at once, and then by default nothing is known of it.
//
// default: double free: ADDRESS is a block of 5046272 bytes, free already
// check: double free: ADDRESS is a block of 5000000 bytes, free already

#include <stdlib.h>

int main(void) {
  char *block = malloc(5000000);
  free(block);
  free(block);
}
