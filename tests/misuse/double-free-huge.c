// A huge block is freed twice; by default nothing is known of it any more.
//
// default: foreign pointer: ADDRESS lies in no block of hakmem
// check: double free: ADDRESS is a block of 5000000 bytes, free already

#include <stdlib.h>

int main(void) {
  char *block = malloc(5000000);
  free(block);
  free(block);
}
