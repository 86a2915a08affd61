// A number that can be no address is freed.
//
// default: foreign pointer: ADDRESS lies in no block of hakmem
// check: foreign pointer: ADDRESS lies in no block of hakmem

#include <stdlib.h>

int main(void) {
  free((void *)0xdeadbeefdeadbeef);
}
