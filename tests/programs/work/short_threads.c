// Starts 100,000 short threads and compares the resident memory after the first 1,000 with that at the end. The
// argument says what each thread does: "plain" allocates and frees; "rounds" has values that ask for all rounds of
// destructors, and allocates in each; "last" calls the allocator for the first time in the last round; "free" frees a
// block of the main thread's in the last round, and calls nothing else of the allocator.

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { warm = 1000, threads = 100000, at_once = 4, blocks = 40, growth_kib_max = 1024 };

static enum { plain, rounds, last, only_free } act;
static pthread_key_t key;

struct task {
  int round;
  void *given;
};

static _Noreturn void fail(const char *what) {
  puts(what);
  exit(1);
}

static void use(void) {
  char *held[blocks];
  for (int i = 0; i < blocks; i++) {
    held[i] = malloc(1 + i * 60);
    if (held[i] == NULL) fail("out of memory");
    memset(held[i], i, 1 + i * 60);
  }
  for (int i = 0; i < blocks; i++) {
    if (held[i][i * 60] != i) fail("a block was overwritten");
    free(held[i]);
  }
}

static void end_round(void *argument) {
  struct task *task = argument;
  task->round++;
  const int is_last = task->round == PTHREAD_DESTRUCTOR_ITERATIONS;
  if (act == rounds || (act == last && is_last)) use();
  if (act == only_free && is_last) free(task->given);
  if (!is_last) pthread_setspecific(key, task);
}

static void *run(void *argument) {
  if (act == plain || act == rounds) use();
  if (act != plain) pthread_setspecific(key, argument);
  return NULL;
}

static long resident_kib(void) {
  FILE *file = fopen("/proc/self/smaps_rollup", "r");
  if (file == NULL) fail("no smaps_rollup");
  char line[200];
  long kib = -1;
  while (fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "Rss: %ld kB", &kib) == 1) break;
  }
  fclose(file);
  if (kib < 0) fail("no Rss in smaps_rollup");
  return kib;
}

int main(int count, char **arguments) {
  if (count != 2) return 2;
  const char *names[] = {"plain", "rounds", "last", "free"};
  while (act <= only_free && strcmp(names[act], arguments[1]) != 0) act++;
  if (act > only_free) return 2;
  if (pthread_key_create(&key, end_round) != 0) return 2;
  long before = 0;
  for (int started = 0; started < threads; started += at_once) {
    if (started == warm) before = resident_kib();
    pthread_t thread[at_once];
    struct task task[at_once];
    for (int i = 0; i < at_once; i++) {
      task[i] = (struct task){0, act == only_free ? malloc(3000) : NULL};
      if (pthread_create(&thread[i], NULL, run, &task[i]) != 0) fail("no thread");
    }
    for (int i = 0; i < at_once; i++) {
      pthread_join(thread[i], NULL);
      if (act != plain && task[i].round != PTHREAD_DESTRUCTOR_ITERATIONS) fail("a round is missing");
    }
  }
  const long after = resident_kib();
  if (after - before > growth_kib_max) {
    printf("resident memory grew from %ld to %ld KiB\n", before, after);
    return 1;
  }
  puts("resident memory did not grow");
  return 0;
}
