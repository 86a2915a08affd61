// Frees blocks twice on purpose; its handler of SIGABRT allocates, as crash reporters do, and ends the process.

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { count = 5000, bytes = 100000 };

static void *blocks[count];

static void handle(int signal_number) {
  (void)signal_number;
  for (int i = 0; i < 3000; i++) {
    if (malloc(bytes) == NULL) break;
  }
  _exit(3);
}

int main(void) {
  signal(SIGABRT, handle);
  for (int i = 0; i < count; i++) blocks[i] = malloc(bytes);
  for (int i = 0; i < count; i++) free(blocks[i]);
  for (int i = 0; i < count - 1; i++) free(blocks[i]);
  return 0;
}
