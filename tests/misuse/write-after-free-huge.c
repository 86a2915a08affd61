// A freed huge block is written; under HAKMEM_CHECK that is a fault of the processor, at once.
//
// default: nothing
// check: fault

#include <stdlib.h>

int main(void) {
  char *block = malloc(5000000);
  free(block);
  block[70000] = 0;
}
