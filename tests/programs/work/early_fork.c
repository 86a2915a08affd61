// Forks before main, again and again, from constructors: as a program also before any constructor, as a library to be
// preloaded behind malloc before that one's. The children allocate at once.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { expected = 3 };

static void use(void) {
  char *held[200];
  for (int i = 0; i < 200; i++) {
    held[i] = malloc(1 + i * i * 5);
    if (held[i] == NULL) _exit(1);
    memset(held[i], i, 1 + i * i * 5);
  }
  for (int i = 0; i < 200; i++) {
    if (held[i][i * i * 5] != (char)i) _exit(1);
    free(held[i]);
  }
}

static void fork_deep(int depth) {
  if (depth == 0) return;
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    use();
    fork_deep(depth - 1);
    _exit(expected);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != expected << 8) _exit(1);
}

__attribute__((constructor)) static void construct(void) {
  fork_deep(3);
  use();
  fork_deep(2);
}

#ifdef PROGRAM
__attribute__((section(".preinit_array"), used)) static void (*first)(void) = construct;

int main(void) {
  use();
  puts("forked before main");
  return 0;
}
#endif
