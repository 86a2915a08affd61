// Memory is freed that came from sbrk.
//
// default: foreign pointer: ADDRESS lies in no block of hakmem
// check: foreign pointer: ADDRESS lies in no block of hakmem

#include <stdlib.h>
#include <unistd.h>

int main(void) {
  free(sbrk(4096));
}
