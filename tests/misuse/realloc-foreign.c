// A local array is resized.
//
// default: foreign pointer: ADDRESS lies in no block of hakmem
// check: foreign pointer: ADDRESS lies in no block of hakmem

#include <stdlib.h>

int main(void) {
  char local[64];
  return realloc(local, 128) == NULL;
}
