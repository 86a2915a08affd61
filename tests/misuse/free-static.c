// A global variable is freed.
//
// default: foreign pointer: ADDRESS lies in no block of hakmem
// check: foreign pointer: ADDRESS lies in no block of hakmem

#include <stdlib.h>

static int global;

int main(void) {
  free(&global);
}
