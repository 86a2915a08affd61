// A signal handler forks while its thread is anywhere inside malloc and free, and other threads allocate. With the
// argument "slow" the thread is mostly in slow paths, and the children end at once, go on from where the signal came,
// or allocate in the handler, which no allocator can serve wherever it was interrupted: such a child may end with
// SIGABRT, but must end. With the argument "fast" it is in fast paths only, and every child allocates in the handler.

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { background = 3, forks = 300, live = 64, expected = 3 };

extern size_t hak_purge(void) __attribute__((weak));

static int slow;
static sem_t handled;
static volatile int in_child, rounds_left = -1, forks_done;
static unsigned aborted;

struct block {
  unsigned char *bytes;
  size_t size;
};

static _Noreturn void fail(const char *what) {
  (void)!write(1, what, strlen(what));
  (void)!write(1, "\n", 1);
  _exit(1);
}

static void make(struct block *block, size_t size) {
  block->bytes = malloc(size);
  if (block->bytes == NULL) fail("out of memory");
  block->size = size;
  // Little of it, so that the time goes into the allocator.
  memset(block->bytes, (int)((uintptr_t)block->bytes >> 4), 1);
}

static void destroy(struct block *block) {
  if (block->bytes[0] != (unsigned char)((uintptr_t)block->bytes >> 4)) fail("a block was overwritten");
  free(block->bytes);
}

// Larger than a magazine holds much of: nearly every call takes a lock.
static const size_t slow_sizes[] = {100000, 60000, 130000, 20000, 300000, 120000, 2000000, 8000};

static void work(uint32_t *state, struct block *blocks) {
  for (int i = 0; i < live; i++) {
    *state = *state * 1664525 + 1013904223;
    make(&blocks[i], slow_sizes[*state >> 29] + (*state >> 8) % 1000);
  }
  for (int i = 0; i < live; i++) destroy(&blocks[(i * 37) % live]);
}

static void *churn(void *argument) {
  uint32_t state = (uint32_t)(uintptr_t)argument;
  struct block blocks[live];
  for (;;) {
    work(&state, blocks);
    if (hak_purge != NULL && state >> 30 == 0) hak_purge();
  }
  return NULL;
}

static void allocate_in_handler(void) {
  struct block blocks[200];
  for (int i = 0; i < 200; i++) make(&blocks[i], 1 + (size_t)i * i * 5);
  for (int i = 0; i < 200; i++) destroy(&blocks[i]);
}

static void handle(int number) {
  (void)number;
  const int kind = slow ? forks_done % 3 : 2;
  const int error = errno;
  const pid_t child = fork();
  if (child < 0) fail("fork refused");
  if (child == 0) {
    alarm(30);
    if (kind == 0) _exit(expected);
    if (kind == 1) {
      rounds_left = 20;
      in_child = 1;
      return;
    }
    allocate_in_handler();
    _exit(expected);
  }
  int status;
  while (waitpid(child, &status, 0) != child) {
    if (errno != EINTR) fail("no child");
  }
  const int may_abort = slow && kind == 2;
  if (may_abort && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) {
    aborted++;
  } else if (WIFSIGNALED(status)) {
    fail(WTERMSIG(status) == SIGALRM ? "a child hung" : "a child died by a signal");
  } else if (WEXITSTATUS(status) != expected) {
    fail("a child failed");
  }
  forks_done++;
  errno = error;
  sem_post(&handled);
}

static void *interrupt(void *argument) {
  const pthread_t *thread = argument;
  for (int i = 0; i < forks; i++) {
    for (volatile int spin = 0; spin < (i * 7919) % 20000; spin++) {
    }
    pthread_kill(*thread, SIGUSR1);
    while (sem_wait(&handled) != 0) {
    }
  }
  rounds_left = 0;
  return NULL;
}

static pthread_t start(void *(*run)(void *), void *argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, argument) != 0) fail("no thread");
  return thread;
}

int main(int count, char **arguments) {
  slow = count == 2 && strcmp(arguments[1], "slow") == 0;
  pthread_t self = pthread_self();
  sem_init(&handled, 0, 0);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  for (int i = 1; i <= background; i++) start(churn, (void *)(uintptr_t)(i * 12345));
  pthread_t interrupter = start(interrupt, &self);
  struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &action, NULL);

  uint32_t state = 1;
  struct block blocks[live];
  struct block kept;
  make(&kept, 5000);
  if (!slow) {
    // Fills the magazine, so that what follows finds its block there.
    for (int i = 0; i < live; i++) make(&blocks[i], 32);
    for (int i = 0; i < live; i++) destroy(&blocks[i]);
  }
  pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
  while (rounds_left != 0) {
    if (slow) {
      work(&state, blocks);
    } else {
      for (int i = 0; i < live / 2; i++) make(&blocks[i], 32);
      for (int i = 0; i < live / 2; i++) destroy(&blocks[i]);
    }
    if (rounds_left > 0) rounds_left--;
  }
  destroy(&kept);
  if (in_child) {
    // A thread of the child, and a child of its own.
    const pid_t child = fork();
    if (child < 0) fail("fork refused in a child");
    work(&state, blocks);
    if (child == 0) _exit(expected);
    int status;
    if (waitpid(child, &status, 0) != child || status != expected << 8) fail("a child's child failed");
    _exit(expected);
  }
  pthread_join(interrupter, NULL);
  printf("%d children of %d\n", forks_done, forks);
  fprintf(stderr, "%u aborted\n", aborted);
  fflush(stdout);
  _exit(0);
}
