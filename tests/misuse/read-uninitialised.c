// A block is read before it was written: never noticed, but under HAKMEM_CHECK it is not zero.
//
// default: nothing
// check: nothing

#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  return block[8] == 2;
}
