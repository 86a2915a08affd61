// A library that wraps malloc, to be preloaded before or behind another one: it looks for the next malloc at the first
// call, which may itself allocate, and allocates in its own constructor. Until it has found the next one it serves
// from a store of its own, as such libraries do.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *(*next_malloc)(size_t);
static void (*next_free)(void *);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static _Alignas(16) char store[65536];
static size_t stored;
static __thread int finding;
static int armed;
static char *early;
unsigned long wrapped_calls;

static void *from_store(size_t size) {
  if (size > sizeof store - stored) _exit(99);
  void *block = store + stored;
  stored += (size + 15) / 16 * 16;
  return block;
}

static int is_stored(const void *block) { return (uintptr_t)block - (uintptr_t)store < sizeof store; }

static int find(void) {
  if (next_free != NULL) return 1;
  if (finding) return 0;
  finding = 1;
  // A name that is not there makes the loader build a message, for which it allocates.
  if (dlsym(RTLD_NEXT, "no_such_function") != NULL) _exit(98);
  next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
  next_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
  next_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
  next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
  finding = 0;
  return 1;
}

void *malloc(size_t size) {
  __atomic_fetch_add(&wrapped_calls, 1, __ATOMIC_RELAXED);
  return find() ? next_malloc(size) : from_store(size);
}

void *calloc(size_t count, size_t size) {
  return find() ? next_calloc(count, size) : from_store(count * size);
}

void *realloc(void *block, size_t size) {
  if (find() && !is_stored(block)) return next_realloc(block, size);
  void *moved = malloc(size);
  // The store is larger than any block of it and its zeros.
  if (moved != NULL && block != NULL) memcpy(moved, block, size < 1000 ? size : 1000);
  return moved;
}

void free(void *block) {
  if (!is_stored(block) && find()) next_free(block);
}

__attribute__((constructor)) static void construct(void) {
  early = malloc(1000);
  if (early == NULL) _exit(97);
  memset(early, 'e', 1000);
  void *volatile large = malloc(200000);
  free(large);
  armed = 1;
}

__attribute__((destructor)) static void destruct(void) {
  if (!armed || early[999] != 'e') _exit(96);
  free(early);
  // Behind another malloc, that one's own destructor has run by now.
  void *volatile late = malloc(100000);
  if (late == NULL) _exit(95);
  free(late);
}
