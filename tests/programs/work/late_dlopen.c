// Opens the library named by its argument when many threads with small stacks run already, lets them all use it, and
// then as many that start later. The process's own malloc is not the library's.

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { threads = 48, blocks = 60, measured_stack = 512 * 1024 };

static const size_t sizes[] = {1, 24, 200, 1000, 5000, 40000, 140000, 700000, 3000000};
enum { size_count = sizeof sizes / sizeof *sizes };

static _Alignas(65536) unsigned char measured[measured_stack];
static pthread_barrier_t started, opened;
static void *(*allocate)(size_t);
static void *(*resize)(void *, size_t);
static void (*release)(void *);

static void check(int fine, const char *what) {
  if (fine) return;
  puts(what);
  exit(1);
}

static void use(int mark) {
  unsigned char *block[blocks];
  for (int i = 0; i < blocks; i++) {
    const size_t size = sizes[i % size_count] + (size_t)i;
    block[i] = allocate(size);
    check(block[i] != NULL, "out of memory");
    memset(block[i], mark, size < 5000 ? size : 5000);
    block[i][size - 1] = (unsigned char)i;
  }
  for (int i = 0; i < blocks; i++) {
    const size_t size = sizes[i % size_count] + (size_t)i;
    check(block[i][size - 1] == i, "the end of a block was overwritten");
    check(size == 1 || block[i][0] == mark, "a block was overwritten");
    block[i] = resize(block[i], size * 2);
    check(block[i] != NULL, "out of memory");
    check(block[i][size - 1] == i, "a block lost its contents");
    release(block[i]);
  }
}

static void *early(void *argument) {
  pthread_barrier_wait(&started);
  pthread_barrier_wait(&opened);
  use((int)(size_t)argument);
  return NULL;
}

static void *late(void *argument) {
  use((int)(size_t)argument);
  return NULL;
}

int main(int count, char **arguments) {
  pthread_t thread[threads];
  pthread_attr_t small, filled;
  const size_t stack = PTHREAD_STACK_MIN > 65536 ? PTHREAD_STACK_MIN : 65536;
  check(count == 2, "usage: late_dlopen LIBRARY");
  check(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, stack) == 0, "no small stack");
  check(pthread_barrier_init(&started, NULL, threads + 1) == 0, "no barrier");
  check(pthread_barrier_init(&opened, NULL, threads + 1) == 0, "no barrier");
  // The stack of one thread is filled before, and looked at afterwards.
  memset(measured, 0xa5, sizeof measured);
  check(pthread_attr_init(&filled) == 0, "no stack of our own");
  check(pthread_attr_setstack(&filled, measured, sizeof measured) == 0, "no stack of our own");
  for (size_t i = 0; i < threads; i++) {
    check(pthread_create(&thread[i], i == 0 ? &filled : &small, early, (void *)(i + 1)) == 0, "no thread");
  }
  pthread_barrier_wait(&started);
  void *library = dlopen(arguments[1], RTLD_NOW);
  if (library == NULL) {
    puts(dlerror());
    return 1;
  }
  allocate = (void *(*)(size_t))dlsym(library, "hak_malloc");
  resize = (void *(*)(void *, size_t))dlsym(library, "hak_realloc");
  release = (void (*)(void *))dlsym(library, "hak_free");
  check(allocate != NULL && resize != NULL && release != NULL, "a function is missing");
  pthread_barrier_wait(&opened);
  for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
  for (size_t i = 0; i < threads; i++) {
    check(pthread_create(&thread[i], &small, late, (void *)(i + 1)) == 0, "no thread");
  }
  for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
  size_t untouched = 0;
  while (measured[untouched] == 0xa5) untouched++;
  printf("%d threads before it, %d after; %zu bytes of stack used\n", threads, threads, sizeof measured - untouched);
  return 0;
}
