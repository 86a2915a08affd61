// An address is freed where nothing is mapped.
//
// default: foreign pointer: ADDRESS lies in no block of hakmem
// check: foreign pointer: ADDRESS lies in no block of hakmem

#include <stdlib.h>

int main(void) {
  free((void *)0x123456789000);
}
