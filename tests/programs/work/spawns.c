// Starts programs in every way there is (posix_spawn, vfork, fork, system, popen) from several threads at once, while
// others allocate.

#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { spawners = 4, churners = 4, turns = 6, expected = 3 };

extern char **environ;
static volatile int stop;

static _Noreturn void fail(const char *what) {
  (void)!write(1, what, strlen(what));
  (void)!write(1, "\n", 1);
  _exit(1);
}

static void *churn(void *argument) {
  unsigned state = 1;
  while (!stop) {
    char *held[50];
    for (int i = 0; i < 50; i++) {
      state = state * 1664525 + 1013904223;
      const size_t size = 1 + (state >> 8) % (state >> 28 == 0 ? 2000000 : 3000);
      held[i] = malloc(size);
      if (held[i] == NULL) fail("out of memory");
      held[i][size - 1] = (char)i;
      held[i][0] = (char)i;
    }
    for (int i = 0; i < 50; i++) {
      if (held[i][0] != (char)i) fail("a block was overwritten");
      free(held[i]);
    }
  }
  return argument;
}

static void await(pid_t child) {
  int status;
  if (child < 0 || waitpid(child, &status, 0) != child) fail("no child");
  if (status != expected << 8) fail("a child failed");
}

static void *spawn(void *argument) {
  char *command[] = {strdup("/bin/sh"), strdup("-c"), strdup("exit 3"), NULL};
  for (int turn = 0; turn < turns; turn++) {
    pid_t child;
    if (posix_spawn(&child, command[0], NULL, NULL, command, environ) != 0) fail("posix_spawn");
    await(child);
    child = vfork();
    if (child == 0) {
      execve(command[0], command, environ);
      _exit(1);
    }
    await(child);
    child = fork();
    if (child == 0) {
      char *text = strdup("exit 3");
      command[2] = realloc(text, 100);
      execve(command[0], command, environ);
      _exit(1);
    }
    await(child);
    if (system("exit 3") != expected << 8) fail("system");
    FILE *pipe = popen("echo text; exit 3", "r");
    char line[20];
    if (pipe == NULL || fgets(line, sizeof line, pipe) == NULL || strcmp(line, "text\n") != 0) fail("popen");
    if (pclose(pipe) != expected << 8) fail("pclose");
  }
  for (int i = 0; i < 3; i++) free(command[i]);
  return argument;
}

int main(void) {
  pthread_t thread[spawners + churners];
  for (int i = 0; i < spawners + churners; i++) {
    if (pthread_create(&thread[i], NULL, i < spawners ? spawn : churn, NULL) != 0) return 2;
  }
  for (int i = 0; i < spawners + churners; i++) {
    if (i == spawners) stop = 1;
    pthread_join(thread[i], NULL);
  }
  puts("all programs ended as they should");
  return 0;
}
