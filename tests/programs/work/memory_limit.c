// memory_limit NAME LIVE [THREADS]: works with LIVE bytes in use at a time, under HAKMEM_LIMIT bytes. Says in one line
// what was wrong, if anything was: a block that could not be had, or more resident memory than the limit and what there
// was at the start.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define fail(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))

enum { size_first = 16, size_last = 4 << 20, threads_max = 16 };

static size_t live, limit, base, peak;
static int thread_count = 1;
static pthread_barrier_t barrier;

// Blocks are chained, so that nothing but them is in use.
struct block {
  struct block *next;
};

// The anonymous memory of the process in bytes.
static size_t resident(void) {
  static char text[4096];
  int file = open("/proc/self/smaps_rollup", O_RDONLY);
  ssize_t length = 0;
  for (ssize_t got; (got = read(file, text + length, sizeof text - 1 - (size_t)length)) > 0;) length += got;
  close(file);
  text[length] = 0;
  const char *found = strstr(text, "\nAnonymous:");
  if (found == NULL) fail("no Anonymous in /proc/self/smaps_rollup");
  return strtoull(found + strlen("\nAnonymous:"), NULL, 10) * 1024;
}

static void look(void) {
  size_t now = resident();
  if (now > peak) peak = now;
  if (now > limit + base) fail("%zu bytes are resident: %zu at the start, and the limit is %zu", now, base, limit);
}

// Waits for all threads; then one of them looks.
static void together(void) {
  if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) look();
  pthread_barrier_wait(&barrier);
}

static void take(struct block **chain, size_t size, size_t bytes) {
  for (size_t got = 0; got + size <= bytes; got += size) {
    struct block *block = malloc(size);
    if (block == NULL) fail("no block of %zu bytes, with %zu of %zu in use; errno %d", size, got, bytes, errno);
    memset(block, 0x5a, size);
    block->next = *chain;
    *chain = block;
  }
}

// Frees all but every `keep`th or so; all if it is 0. Returns how many are left.
static size_t drop(struct block **chain, unsigned keep, uint64_t *random) {
  size_t kept = 0;
  struct block *rest = NULL;
  while (*chain != NULL) {
    struct block *block = *chain;
    *chain = block->next;
    *random ^= *random << 13, *random ^= *random >> 7, *random ^= *random << 17;
    if (keep != 0 && *random % keep == 0) {
      block->next = rest;
      rest = block;
      kept++;
    } else {
      free(block);
    }
  }
  *chain = rest;
  return kept;
}

// In each size, powers of two and those between: the live set is allocated, nine tenths of it are freed at random and
// allocated again, all is freed.
static void *cycle(void *number) {
  uint64_t random = 0x9e3779b97f4a7c15 * ((uintptr_t)number + 1);
  size_t share = live / (size_t)thread_count;
  for (int round = 0; round < 2; round++) {
    for (size_t size = size_first; size <= size_last && size <= share; size += size & (size - 1) ? size / 3 : size / 2) {
      struct block *chain = NULL;
      take(&chain, size, share);
      together();
      size_t kept = drop(&chain, 10, &random);
      take(&chain, size, share - share % size - kept * size);
      together();
      drop(&chain, 0, &random);
      // Threads that went ahead would need room for two sizes: blocks of one slab are of several threads.
      together();
    }
  }
  return NULL;
}

static void cycles(void) {
  pthread_t threads[threads_max];
  for (int i = 1; i < thread_count; i++) {
    if (pthread_create(&threads[i], NULL, cycle, (void *)(uintptr_t)i) != 0) fail("no thread");
  }
  cycle((void *)0);
  for (int i = 1; i < thread_count; i++) pthread_join(threads[i], NULL);
}

// A child has the memory of its parent and the whole limit: it frees what it inherited, and cycles.
static void forks(void) {
  struct block *chain = NULL;
  uint64_t random = 88172645463325252;
  take(&chain, 1000, live);
  for (int i = 0; i < 3; i++) {
    pid_t child = fork();
    if (child < 0) fail("no child");
    if (child == 0) {
      drop(&chain, 0, &random);
      cycle((void *)0);
      _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) fail("the child ended with %d", status);
  }
  drop(&chain, 0, &random);
  cycle((void *)0);
}

int main(int argc, char **argv) {
  if (argc < 3) fail("which load, and how many bytes in use?");
  live = strtoull(argv[2], NULL, 10);
  if (argc > 3) thread_count = atoi(argv[3]);
  const char *setting = getenv("HAKMEM_LIMIT");
  limit = setting == NULL ? SIZE_MAX / 2 : strtoull(setting, NULL, 10);
  pthread_barrier_init(&barrier, NULL, (unsigned)thread_count);
  base = resident();
  if (strcmp(argv[1], "cycles") == 0) {
    cycles();
  } else if (strcmp(argv[1], "forks") == 0) {
    forks();
  } else {
    fail("no load of that name");
  }
  printf("finished\n");
  if (argc > 4) fprintf(stderr, "base %zu peak %zu limit %zu\n", base, peak, limit);
  return 0;
}
