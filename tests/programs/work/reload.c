// Opens an object of hakmem's again and again and closes it, in several threads, which use it, and end after it was
// closed: their ends are heard of by a function in the object, so it must stay. The argument is its path.

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { threads = 8, turns = 20, blocks = 300 };

struct door {
  void *(*malloc)(size_t);
  void (*free)(void *);
  int (*stats)(uint64_t *, size_t);
};

static const char *path;
static sem_t used, closed;

static _Noreturn void fail(const char *what) {
  puts(what);
  exit(1);
}

static void *open_object(struct door *door) {
  void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (object == NULL) fail(dlerror());
  door->malloc = (void *(*)(size_t))dlsym(object, "hak_malloc");
  door->free = (void (*)(void *))dlsym(object, "hak_free");
  door->stats = (int (*)(uint64_t *, size_t))dlsym(object, "hak_stats");
  if (door->malloc == NULL || door->free == NULL || door->stats == NULL) fail("a function is missing");
  return object;
}

static void *run(void *argument) {
  struct door door;
  void *object = open_object(&door);
  char *held[blocks];
  for (int i = 0; i < blocks; i++) {
    held[i] = door.malloc(1 + i * 20);
    if (held[i] == NULL) fail("out of memory");
    memset(held[i], i, 1 + i * 20);
  }
  dlclose(object);
  sem_post(&used);
  while (sem_wait(&closed) != 0) {
  }
  // Nobody has it open now, and its blocks are as they were.
  for (int i = 0; i < blocks; i++) {
    if (held[i][i * 20] != (char)i) fail("a block was overwritten");
    door.free(held[i]);
  }
  return argument;
}

int main(int count, char **arguments) {
  if (count != 2) return 2;
  path = arguments[1];
  sem_init(&used, 0, 0);
  sem_init(&closed, 0, 0);
  for (int turn = 0; turn < turns; turn++) {
    pthread_t thread[threads];
    for (int i = 0; i < threads; i++) {
      if (pthread_create(&thread[i], NULL, run, NULL) != 0) fail("no thread");
    }
    for (int i = 0; i < threads; i++) {
      while (sem_wait(&used) != 0) {
      }
    }
    struct door door;
    dlclose(open_object(&door));
    if (dlopen(path, RTLD_NOW | RTLD_NOLOAD) == NULL) fail("the object was unloaded");
    for (int i = 0; i < threads; i++) sem_post(&closed);
    for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
    uint64_t figures[2];
    if (door.stats(figures, sizeof figures) != 0) fail("no figures");
    if (figures[1] > 1) fail("the heap of an ended thread was left behind");
  }
  puts("it stayed");
  return 0;
}
