// A freed block is written; its leaving the quarantine or the end of the process notices.
//
// default: nothing
// check: write after free: ADDRESS is a block of 48 bytes, free already, and byte 8 of it was changed

#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  free(block);
  block[8] = 0;
}
