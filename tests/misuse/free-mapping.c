// Memory is freed that the program mapped itself.
//
// default: foreign pointer: ADDRESS lies in no block of hakmem
// check: foreign pointer: ADDRESS lies in no block of hakmem

#include <stdlib.h>
#include <sys/mman.h>

int main(void) {
  free(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}
