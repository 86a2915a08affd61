// The byte behind a block is written that is never freed; the end of the process notices.
//
// default: nothing
// check: overflow: ADDRESS is a block of 48 bytes, in use, and byte 49 of it was changed

#include <stdlib.h>

int main(void) {
  char *block = malloc(48);
  block[49] = 0;
}
