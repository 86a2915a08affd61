// Ends the process in the way that the argument says ("exit", "return", "quick_exit" or "pthread_exit"), with blocks
// that are freed and made by every kind of handler on the way, while another thread goes on allocating.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { blocks = 200 };

static char *kept[blocks];
static pthread_key_t key;

static void say(const char *what) {
  (void)!write(1, what, strlen(what));
  (void)!write(1, "\n", 1);
}

static _Noreturn void fail(const char *what) {
  say(what);
  _exit(1);
}

// Frees what an earlier handler or main made, and makes the same for the next.
static void use(const char *who) {
  for (int i = 0; i < blocks; i++) {
    const size_t size = 1 + (size_t)i * i * 7;
    if (kept[i] != NULL && (kept[i][0] != (char)i || kept[i][size - 1] != (char)i)) fail("a block was overwritten");
    free(kept[i]);
    kept[i] = malloc(size);
    if (kept[i] == NULL) fail("out of memory");
    memset(kept[i], i, size);
  }
  say(who);
}

static void at_exit(void) { use("atexit"); }
static void at_quick_exit_(void) { use("at_quick_exit"); }
static void end_of_value(void *value) { use(value); }
static void on_exit_(int status, void *argument) {
  (void)status;
  use("on_exit");
  free(argument);
}
__attribute__((destructor)) static void destruct(void) { use("destructor"); }
__attribute__((destructor(101))) static void destruct_last(void) { use("last destructor"); }

static void *churn(void *argument) {
  for (unsigned i = 0;; i++) {
    void *some[30];
    for (int j = 0; j < 30; j++) some[j] = malloc((i * 7919 + j * 104729) % 200000);
    for (int j = 0; j < 30; j++) free(some[j]);
  }
  return argument;
}

static void *wait_for_main(void *argument) {
  pthread_join(*(pthread_t *)argument, NULL);
  use("thread after main");
  return NULL;
}

int main(int count, char **arguments) {
  if (count != 2) return 2;
  const char *how = arguments[1];
  static pthread_t self;
  self = pthread_self();
  pthread_t thread;
  use("main");
  if (atexit(at_exit) != 0 || at_quick_exit(at_quick_exit_) != 0 || on_exit(on_exit_, malloc(500)) != 0) return 2;
  if (pthread_key_create(&key, end_of_value) != 0) return 2;
  pthread_setspecific(key, "value of main");
  const int last = strcmp(how, "pthread_exit") == 0;
  // The process ends with its last thread, so that one must not go on for ever.
  if (pthread_create(&thread, NULL, last ? wait_for_main : churn, &self) != 0) return 2;
  if (strcmp(how, "exit") == 0) exit(0);
  if (strcmp(how, "quick_exit") == 0) quick_exit(0);
  if (last) pthread_exit(NULL);
  return strcmp(how, "return") == 0 ? 0 : 2;
}
