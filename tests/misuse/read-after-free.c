// A freed block is read: never noticed, but under HAKMEM_CHECK it holds nothing of before.
//
// default: nothing
// check: nothing

#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  block[8] = 1;
  free(block);
  return block[8] == 2;
}
