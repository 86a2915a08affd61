// A freed block is written, and many others come and go; its leaving the quarantine notices.
//
// default: nothing
// check: write after free: ADDRESS is a block of 48 bytes, free already, and byte 8 of it was changed

#include <stdlib.h>
#include <unistd.h>

int main(void) {
  char *block = malloc(48);
  free(block);
  block[8] = 0;
  for (int i = 0; i < 100000; i++) free(malloc(48));
  _exit(0);
}
