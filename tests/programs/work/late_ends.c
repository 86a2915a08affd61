// Allocates and frees at the end of threads, before and after the allocator has heard of that end: in destructors of
// thread-local objects, in those of keys that are older and younger than the allocator's, through all the rounds that
// the system grants, and in libc's own cleaning up, which comes last. Each thread is alone, so with hak_stats the
// destructors can say on which side of the allocator's own they ran.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int hak_stats(uint64_t *stats, size_t size) __attribute__((weak));
extern int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *library);
extern void *__dso_handle;

enum { younger = 20, threads = 60, blocks = 60 };

static pthread_key_t older_key, younger_keys[younger];
static int with_heap, without_heap, objects_ended, rounds_ended;
static char *from_before[blocks];

static _Noreturn void fail(const char *what) {
  puts(what);
  exit(1);
}

static char *text(size_t size, int letter) {
  char *block = malloc(size + 1);
  if (block == NULL) fail("out of memory");
  memset(block, letter, size);
  block[size] = 0;
  return block;
}

// Blocks of many sizes, among them ones of other threads.
static void use(void) {
  for (int i = 0; i < blocks; i++) {
    char *new = text(i * i * 60, 'a' + i % 26);
    char *old = from_before[i];
    if (old == NULL || strlen(old) != (size_t)(i * i * 60)) fail("a block was overwritten");
    new = realloc(new, i * i * 60 + 40);
    if (new == NULL || strlen(new) != (size_t)(i * i * 60)) fail("realloc lost a block's contents");
    from_before[i] = new;
    free(old);
  }
}

static uint64_t threads_with_heap(void) {
  uint64_t figures[2] = {0};
  if (hak_stats != NULL && hak_stats(figures, sizeof figures) != 0) fail("no figures");
  return figures[1];
}

static void use_late(void) {
  if (threads_with_heap() == 2) with_heap++; else without_heap++;
  use();
}

static void end_of_object(void *object) {
  objects_ended++;
  use_late();
  free(object);
}

static void end_of_value(void *argument) {
  pthread_key_t *key = argument;
  rounds_ended++;
  use_late();
  // Asked for again for as long as the system does it.
  pthread_setspecific(*key, key);
}

static void *run(void *argument) {
  pthread_setspecific(older_key, &older_key);
  for (int i = 0; i < younger; i++) pthread_setspecific(younger_keys[i], &younger_keys[i]);
  // Two of what libc keeps for a thread and frees at the very end.
  if (strstr(strerror(123456), "123456") == NULL) fail("strerror");
  if (dlsym(RTLD_DEFAULT, "no_such_function") != NULL) fail("dlsym");
  use();
  if (__cxa_thread_atexit_impl(end_of_object, text(100, 'o'), &__dso_handle) != 0) fail("no destructor");
  return argument;
}

static void before_everything(void) {
  if (pthread_key_create(&older_key, end_of_value) != 0) fail("no key");
}

__attribute__((section(".preinit_array"), used)) static void (*first)(void) = before_everything;

int main(void) {
  for (int i = 0; i < younger; i++) {
    if (pthread_key_create(&younger_keys[i], end_of_value) != 0) fail("no key");
  }
  for (int i = 0; i < blocks; i++) from_before[i] = text(i * i * 60, 'x');
  for (int i = 0; i < threads; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, NULL) != 0) fail("no thread");
    pthread_join(thread, NULL);
    if (hak_stats != NULL && threads_with_heap() != 1) fail("a thread's heap was left behind");
  }
  for (int i = 0; i < blocks; i++) free(from_before[i]);
  if (hak_stats != NULL && (with_heap < threads || without_heap < threads)) fail("all destructors ran on one side");
  fprintf(stderr, "%d with a heap, %d without\n", with_heap, without_heap);
  printf("%d objects and %d rounds ended\n", objects_ended, rounds_ended);
  return 0;
}
