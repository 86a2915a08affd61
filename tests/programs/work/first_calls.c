// The first call of the malloc family, before any constructor and in threads: each function in turn. The argument is
// the number of the function that comes first in the process. Where hak_* is there too, its functions take part.

#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern int hak_stats(void *stats, size_t size) __attribute__((weak));
extern size_t hak_purge(void) __attribute__((weak));
extern void hak_tiny_magazine_flush(int class_index) __attribute__((weak));
extern void hak_tiny_magazine_flush_all(void) __attribute__((weak));

enum { functions = 16 };

static void check(int fine, const char *what) {
  if (fine) return;
  (void)!write(1, what, strlen(what));
  (void)!write(1, "\n", 1);
  _exit(1);
}

static unsigned char *filled(void *block, size_t size) {
  check(block != NULL, "out of memory");
  return memset(block, 0x5a, size);
}

// `block` has 100 bytes from elsewhere, or is NULL.
static void call(int function, unsigned char *block) {
  void *aligned = NULL;
  unsigned char *other = NULL;
  size_t figures[4];
  switch (function) {
    case 0: free(NULL); break;
    case 1: free(block); block = NULL; break;
    case 2: other = filled(realloc(NULL, 70), 70); break;
    case 3: block = realloc(block, 5000); filled(block, 100); break;
    case 4: check(malloc_usable_size(NULL) == 0, "NULL has a size"); break;
    case 5: check(block == NULL || malloc_usable_size(block) >= 100, "too small"); break;
    case 6: other = calloc(7, 9); check(other != NULL && other[62] == 0, "calloc did not clear"); break;
    case 7: other = filled(memalign(64, 10), 10); check((uintptr_t)other % 64 == 0, "memalign"); break;
    case 8: check(posix_memalign(&aligned, 4096, 10) == 0, "posix_memalign"); other = filled(aligned, 10); break;
    case 9: other = filled(aligned_alloc(128, 128), 128); break;
    case 10: other = filled(malloc(3000000), 3000000); break;
    case 11: other = filled(malloc(300000), 300000); break;
    case 12: if (hak_stats != NULL) check(hak_stats(figures, sizeof figures) == 0, "hak_stats"); break;
    case 13: if (hak_purge != NULL) hak_purge(); break;
    case 14: if (hak_tiny_magazine_flush != NULL) hak_tiny_magazine_flush(3); break;
    default: if (hak_tiny_magazine_flush_all != NULL) hak_tiny_magazine_flush_all(); break;
  }
  if (block != NULL) check(block[99] == 0x5a, "the block was overwritten");
  free(block);
  free(other);
}

static void before_everything(int count, char **arguments) { call(count > 1 ? atoi(arguments[1]) : 0, NULL); }

__attribute__((section(".preinit_array"), used)) static void (*first)(int, char **) = before_everything;

struct task {
  int function;
  unsigned char *block;
};

static void *run(void *argument) {
  const struct task *task = argument;
  call(task->function, task->block);
  return NULL;
}

int main(void) {
  for (int function = 0; function < 3 * functions; function++) {
    struct task task = {function % functions, filled(malloc(100), 100)};
    pthread_t thread;
    check(pthread_create(&thread, NULL, run, &task) == 0, "no thread");
    pthread_join(thread, NULL);
  }
  puts("every function came first");
  return 0;
}
