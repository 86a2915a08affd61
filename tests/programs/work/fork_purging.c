// Forks while other threads give memory back to the system: in the child nothing is lost of what they had in hand.
// Only small blocks are used, so that after a purge no memory counts as used by larger ones, and every superslab that
// was ever mapped is either in service or was unmapped.

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern int hak_stats(uint64_t *stats, size_t size) __attribute__((weak));
extern size_t hak_purge(void) __attribute__((weak));

enum { forks = 300, blocks = 3000, bytes = 4000, expected = 3 };
enum { superslabs = 2, mapped_ever = 4, unmapped_ever = 5, large_bytes = 9, fields };

static _Noreturn void fail(const char *what) {
  (void)!write(1, what, strlen(what));
  (void)!write(1, "\n", 1);
  _exit(1);
}

static void *churn(void *argument) {
  static __thread void *held[blocks];
  for (;;) {
    for (int i = 0; i < blocks; i++) {
      held[i] = malloc(bytes);
      if (held[i] == NULL) fail("out of memory");
      memset(held[i], 1, bytes);
    }
    for (int i = 0; i < blocks; i++) free(held[i]);
    if (argument != NULL && hak_purge != NULL) hak_purge();
  }
  return NULL;
}

int main(void) {
  pthread_t thread;
  for (int i = 0; i < 2; i++) {
    if (pthread_create(&thread, NULL, churn, i == 0 ? NULL : &thread) != 0) return 2;
  }
  for (int i = 0; i < forks; i++) {
    const pid_t child = fork();
    if (child < 0) fail("fork refused");
    if (child == 0) {
      alarm(60);
      if (hak_stats == NULL) _exit(expected);
      hak_purge();
      uint64_t figures[fields];
      if (hak_stats(figures, sizeof figures) != 0) fail("no figures");
      if (figures[mapped_ever] - figures[unmapped_ever] != figures[superslabs]) fail("a superslab was lost");
      if (figures[large_bytes] != 0) fail("granules were lost");
      _exit(expected);
    }
    int status;
    if (waitpid(child, &status, 0) != child) fail("no child");
    if (status != expected << 8) fail("a child failed");
  }
  puts("nothing was lost");
  fflush(stdout);
  _exit(0);
}
