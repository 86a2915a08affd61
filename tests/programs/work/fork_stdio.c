// Forks while one thread flushes all files and another reads long lines: fork, fflush(NULL) and getline each hold
// what the next one waits for, unless malloc's fork handler takes the list of open files first.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { lines = 20, forks = 40 };

static FILE *file;

static void *read_lines(void *argument) {
  for (;;) {
    char *line = NULL;
    size_t bytes = 0;
    rewind(file);
    while (getline(&line, &bytes, file) > 0) {
    }
    free(line);
  }
  return argument;
}

static void *flush_files(void *argument) {
  for (;;) fflush(NULL);
  return argument;
}

int main(void) {
  file = tmpfile();
  if (file == NULL) return 1;
  for (int line = 0; line < lines; line++) {
    for (int i = 0; i < 300000 * (line % 3 + 1); i++) fputc('a', file);
    fputc('\n', file);
  }
  fflush(file);
  pthread_t thread;
  if (pthread_create(&thread, NULL, read_lines, NULL) != 0) return 1;
  if (pthread_create(&thread, NULL, flush_files, NULL) != 0) return 1;
  for (int i = 0; i < forks; i++) {
    pid_t child = fork();
    if (child == 0) _exit(7);
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7) _exit(1);
  }
  if (write(1, "all forked\n", 11) != 11) _exit(1);
  _exit(0);
}
