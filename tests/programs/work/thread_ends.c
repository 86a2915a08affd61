// Allocates and frees where an allocator may not exist yet or no longer: in a constructor, in the destructors of
// thread-specific data (which ask to be called again), in exit handlers and in a destructor of the program.

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { keys = 24, threads = 200 };

static pthread_key_t key[keys];
static char *early;
static unsigned long calls;

static void check(int fine, const char *what) {
  if (fine) return;
  puts(what);
  _Exit(1);
}

static char *text(size_t size, int letter) {
  char *block = malloc(size + 1);
  check(block != NULL, "out of memory");
  memset(block, letter, size);
  block[size] = 0;
  return block;
}

static void use(size_t most) {
  char *blocks[40];
  for (int i = 0; i < 40; i++) blocks[i] = text(most * (i + 1) / 40, 'a' + i % 26);
  for (int i = 0; i < 40; i++) {
    check(strlen(blocks[i]) == most * (i + 1) / 40, "a block was overwritten");
    if (i % 2 == 0) free(blocks[i]);
  }
  for (int i = 1; i < 40; i += 2) {
    blocks[i] = realloc(blocks[i], most * 3 + 1);
    check(blocks[i] != NULL, "out of memory");
    check(strlen(blocks[i]) == most * (i + 1) / 40, "realloc lost a block's contents");
    free(blocks[i]);
  }
}

struct value {
  int rounds_left;
  int key;
  char filling[80];
};

static struct value *value_of(int index, int rounds) {
  struct value *value = malloc(sizeof *value - (size_t)index);
  check(value != NULL, "out of memory");
  value->rounds_left = rounds;
  value->key = index;
  return value;
}

// As long as a value has rounds left it is replaced by another, for which the system calls again.
static void end_of_value(void *argument) {
  struct value *value = argument;
  const int index = value->key;
  const int rounds = value->rounds_left;
  __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
  use(700);
  free(value);
  if (rounds > 0) pthread_setspecific(key[index], value_of(index, rounds - 1));
}

static void *run(void *argument) {
  for (int i = 0; i < keys; i++) {
    // Fewer rounds than the system grants, so that every value is freed in the end.
    pthread_setspecific(key[i], value_of(i, i % (PTHREAD_DESTRUCTOR_ITERATIONS - 1)));
  }
  use(3000);
  return argument;
}

static void at_exit(void) {
  use(5000);
  printf("%lu values of threads ended\n", calls);
}

__attribute__((constructor(101))) static void before_main(void) {
  early = text(1000, 'e');
  for (int i = 0; i < keys / 2; i++) check(pthread_key_create(&key[i], end_of_value) == 0, "no key");
}

__attribute__((destructor)) static void after_main(void) {
  check(strlen(early) == 1000, "the first block was overwritten");
  free(early);
  use(2000);
  puts("after main");
}

int main(void) {
  for (int i = keys / 2; i < keys; i++) check(pthread_key_create(&key[i], end_of_value) == 0, "no key");
  check(atexit(at_exit) == 0, "no exit handler");
  for (int turn = 0; turn < threads / 4; turn++) {
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) check(pthread_create(&thread[i], NULL, run, NULL) == 0, "no thread");
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
  }
  return 0;
}
