// Producers allocate, consumers only free, for long, through a bounded queue: the peak of resident memory must stay
// within a factor of the blocks that were alive at once. The arguments: producers, consumers, places in the queue, and
// whether blocks are handed over one at a time ("single") or in batches that fill the queue and empty it ("tides").

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The bound: the live blocks and half as much again, and 3 MiB a thread for what magazines and partly used slabs hold.
enum { thread_kib = 3072, operations = 600000 };

static void **queue;
static size_t places, filled, head, tail, live, live_peak;
static int tides, filling = 1, producing;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned per_producer;

static _Noreturn void fail(const char *what) {
  puts(what);
  exit(1);
}

static void put(void **blocks, int count, size_t bytes) {
  pthread_mutex_lock(&lock);
  live += bytes;
  if (live > live_peak) live_peak = live;
  for (int i = 0; i < count; i++) {
    while (filled == places || (tides && !filling)) pthread_cond_wait(&changed, &lock);
    queue[head++ % places] = blocks[i];
    if (++filled == places) filling = 0;
    if (filled == places || filled == 1) pthread_cond_broadcast(&changed);
  }
  pthread_mutex_unlock(&lock);
}

static int get(void **blocks, int most) {
  int count = 0;
  pthread_mutex_lock(&lock);
  while ((filled == 0 || (tides && filling)) && producing > 0) pthread_cond_wait(&changed, &lock);
  while (count < most && filled > 0) {
    blocks[count] = queue[tail++ % places];
    live -= *(uint32_t *)blocks[count++];
    filled--;
  }
  if (filled == 0) filling = 1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  return count;
}

enum { batch = 32 };

static void *produce(void *argument) {
  uint32_t state = (uint32_t)(uintptr_t)argument;
  for (unsigned done = 0; done < per_producer; done += batch) {
    void *blocks[batch];
    size_t bytes = 0;
    for (int i = 0; i < batch; i++) {
      state = state * 1664525 + 1013904223;
      // Mostly small, now and then larger.
      const uint32_t size = 16 + (state >> 8) % (state >> 27 == 0 ? 20000 : 400);
      blocks[i] = malloc(size);
      if (blocks[i] == NULL) fail("out of memory");
      memset(blocks[i], 1, size);
      *(uint32_t *)blocks[i] = size;
      bytes += size;
    }
    put(blocks, batch, bytes);
  }
  pthread_mutex_lock(&lock);
  producing--;
  filling = producing > 0 && filling;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  return NULL;
}

static void *consume(void *argument) {
  void *blocks[batch];
  for (int count = get(blocks, batch); count > 0; count = get(blocks, batch)) {
    for (int i = 0; i < count; i++) free(blocks[i]);
  }
  return argument;
}

static long status_kib(const char *name) {
  FILE *file = fopen("/proc/self/status", "r");
  if (file == NULL) fail("no status");
  char line[200];
  long kib = -1;
  while (fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, name, strlen(name)) == 0 && sscanf(line + strlen(name), ": %ld kB", &kib) == 1) break;
  }
  fclose(file);
  if (kib < 0) fail("a figure is missing in status");
  return kib;
}

int main(int count, char **arguments) {
  if (count != 5) return 2;
  const int producers = atoi(arguments[1]), consumers = atoi(arguments[2]);
  places = (size_t)atol(arguments[3]);
  tides = strcmp(arguments[4], "tides") == 0;
  queue = malloc(places * sizeof *queue);
  if (producers < 1 || consumers < 1 || producers + consumers > 16 || places < 1 || queue == NULL) return 2;
  memset(queue, 0, places * sizeof *queue);
  producing = producers;
  per_producer = operations / (unsigned)producers;
  const long before = status_kib("VmRSS");
  pthread_t thread[16];
  for (int i = 0; i < producers + consumers; i++) {
    void *(*run)(void *) = i < producers ? produce : consume;
    if (pthread_create(&thread[i], NULL, run, (void *)(uintptr_t)(i + 1)) != 0) fail("no thread");
  }
  for (int i = 0; i < producers + consumers; i++) pthread_join(thread[i], NULL);
  if (live != 0) fail("not every block was freed");
  const long peak = status_kib("VmHWM") - before, alive = (long)(live_peak >> 10);
  const long bound = alive + alive / 2 + (long)thread_kib * (producers + consumers);
  fprintf(stderr, "%ld KiB alive at once, %ld KiB resident, bound %ld KiB\n", alive, peak, bound);
  if (peak > bound) fail("resident memory grew past its bound");
  puts("bounded");
  return 0;
}
