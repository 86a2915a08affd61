// The size of a local array is asked for.
//
// default: foreign pointer: ADDRESS lies in no block of hakmem
// check: foreign pointer: ADDRESS lies in no block of hakmem

#include <malloc.h>
#include <stdlib.h>

int main(void) {
  char local[64];
  return malloc_usable_size(local) > 64;
}
