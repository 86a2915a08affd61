// A freed huge block is written: a fault of the processor, at once.
//
// default: fault
// check: fault

#include <stdlib.h>

int main(void) {
  char *block = malloc(5000000);
  free(block);
  block[70000] = 0;
}
