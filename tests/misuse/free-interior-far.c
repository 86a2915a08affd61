// A pointer far into a huge block is freed.
//
// default: interior pointer: ADDRESS lies 4194304 bytes into a block of 5046272 bytes, in use
// check: interior pointer: ADDRESS lies 4194304 bytes into a block of 5000000 bytes, in use

#include <stdlib.h>

int main(void) {
  char *block = malloc(5000000);
  free(block + 4194304);
}
