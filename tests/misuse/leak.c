// A block is never freed: not noticed.
//
// default: nothing
// check: nothing

#include <stdlib.h>

int main(void) {
  return malloc(48) == NULL;
}
