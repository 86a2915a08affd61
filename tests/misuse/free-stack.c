// A local variable is freed.
//
// default: foreign pointer: ADDRESS lies in no block of hakmem
// check: foreign pointer: ADDRESS lies in no block of hakmem

#include <stdlib.h>

int main(void) {
  int local = 0;
  free(&local);
}
