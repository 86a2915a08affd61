// Frees blocks twice on purpose; its handler of SIGABRT forks and allocates in parent and child, as crash reporters do,
// and ends the process.

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { count = 5000, bytes = 100000 };

static void *blocks[count];

static void handle(int signal_number) {
  (void)signal_number;
  const pid_t child = fork();
  for (int i = 0; i < 3000; i++) {
    if (malloc(bytes) == NULL) break;
  }
  if (child == 0) _exit(4);
  int status = 0;
  _exit(child > 0 && waitpid(child, &status, 0) == child && status == 4 << 8 ? 3 : 1);
}

int main(void) {
  signal(SIGABRT, handle);
  for (int i = 0; i < count; i++) blocks[i] = malloc(bytes);
  for (int i = 0; i < count; i++) free(blocks[i]);
  for (int i = 0; i < count - 1; i++) free(blocks[i]);
  return 0;
}
