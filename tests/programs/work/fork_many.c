// Forks with 50 threads in the middle of allocating, from the main thread and from another: what the allocator says of
// itself in the child is right (one thread), the memory that the vanished threads had at hand is not lost, a fork handler
// of the child frees blocks of the parent, and children fork in turn, three deep.

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern int hak_stats(uint64_t *stats, size_t size) __attribute__((weak));
extern void hak_tiny_magazine_flush_all(void) __attribute__((weak));
extern size_t hak_purge(void) __attribute__((weak));

enum { threads = 50, mapped_field = 19, fields, magazine_field = 11, kept = 500, expected = 3, deepest = 3 };

static sem_t ready, stopped, go_on;
static volatile int stop;
static char *of_parent[kept];
static uint64_t mapped_by_parent;

static _Noreturn void fail(const char *what) {
  (void)!write(1, what, strlen(what));
  (void)!write(1, "\n", 1);
  _exit(1);
}

static uint64_t figure(int field) {
  uint64_t figures[fields] = {0};
  if (hak_stats != NULL && hak_stats(figures, sizeof figures) != 0) fail("no figures");
  return figures[field];
}

static void wait_for(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) {
  }
}

// Grows the magazines of many sizes and leaves them full of free blocks.
static void fill_magazines(unsigned rounds) {
  enum { blocks = 400 };
  char *held[blocks];
  for (unsigned round = 0; round < rounds; round++) {
    for (size_t size = 16; size <= 2048; size *= 2) {
      for (int i = 0; i < blocks; i++) {
        held[i] = malloc(size);
        if (held[i] == NULL) fail("out of memory");
        memset(held[i], (int)size, size);
      }
      for (int i = 0; i < blocks; i++) {
        if (held[i][size - 1] != (char)size) fail("a block was overwritten");
        free(held[i]);
      }
    }
  }
}

// In the parent: is in fast paths, in slow ones, or asleep with full magazines, by turns of the main thread.
static void *run(void *argument) {
  fill_magazines(2);
  sem_post(&ready);
  if (argument != NULL) {
    while (!stop) fill_magazines(1);
  }
  sem_post(&stopped);
  wait_for(&go_on);
  return NULL;
}

static void *run_in_child(void *in_turn) {
  fill_magazines(2);
  if (in_turn != NULL) {
    sem_post(&stopped);
    wait_for(&go_on);
  }
  return NULL;
}

static void free_blocks_of_parent(void) {
  for (int i = 0; i < kept; i++) {
    if (of_parent[i] == NULL || of_parent[i][i] != 'p') fail("a block of the parent was overwritten");
    free(of_parent[i]);
    of_parent[i] = malloc(i + 1);
    if (of_parent[i] == NULL) fail("out of memory in a handler");
    memset(of_parent[i], 'p', i + 1);
  }
}

static void await(pid_t child) {
  int status;
  if (child < 0) fail("fork refused");
  if (waitpid(child, &status, 0) != child) fail("no child");
  if (WIFSIGNALED(status)) fail("a child hung or died by a signal");
  if (WEXITSTATUS(status) != expected) fail("a child failed");
}

// `quiet`: at the fork the other threads were asleep outside of the allocator.
static void live_as_child(int depth, int quiet) {
  alarm(60);
  fill_magazines(1);
  if (hak_stats != NULL && figure(1) != 1) fail("the child has threads that are not there");
  if (quiet && depth == 0 && hak_stats != NULL && figure(magazine_field) < threads * 20000) {
    fail("the child lost the blocks of the threads that are gone");
  }
  pthread_t thread[threads];
  for (int i = 0; i < threads; i++) {
    if (pthread_create(&thread[i], NULL, run_in_child, quiet ? &quiet : NULL) != 0) fail("no thread");
    if (quiet) wait_for(&stopped);
  }
  for (int i = 0; i < threads && quiet; i++) sem_post(&go_on);
  for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
  if (depth < deepest) {
    const pid_t child = fork();
    if (child == 0) live_as_child(depth + 1, quiet);
    await(child);
  }
  if (hak_tiny_magazine_flush_all != NULL) hak_tiny_magazine_flush_all();
  if (figure(magazine_field) != 0) fail("blocks of threads that are gone cannot be flushed");
  // What is lost stays mapped.
  if (hak_purge != NULL) hak_purge();
  if (quiet && figure(mapped_field) > mapped_by_parent / 2) fail("blocks of threads that are gone are lost");
  fill_magazines(1);
  _exit(expected);
}

static void *fork_here(void *quiet) {
  mapped_by_parent = figure(mapped_field);
  for (int i = 0; i < 5; i++) {
    const pid_t child = fork();
    if (child == 0) live_as_child(i == 0 ? 0 : deepest, quiet != NULL);
    await(child);
  }
  return NULL;
}

int main(void) {
  for (int i = 0; i < kept; i++) {
    of_parent[i] = malloc(i + 1);
    memset(of_parent[i], 'p', i + 1);
  }
  if (pthread_atfork(NULL, NULL, free_blocks_of_parent) != 0) return 2;
  sem_init(&ready, 0, 0);
  sem_init(&stopped, 0, 0);
  sem_init(&go_on, 0, 0);
  pthread_t thread[threads], forker;
  for (int busy = 0; busy < 2; busy++) {
    stop = 0;
    for (int i = 0; i < threads; i++) {
      if (pthread_create(&thread[i], NULL, run, busy ? &ready : NULL) != 0) fail("no thread");
      if (!busy) wait_for(&stopped);
    }
    for (int i = 0; i < threads; i++) wait_for(&ready);
    int quiet = !busy;
    fork_here(quiet ? &quiet : NULL);
    if (pthread_create(&forker, NULL, fork_here, NULL) != 0) fail("no thread");
    pthread_join(forker, NULL);
    stop = 1;
    if (busy) for (int i = 0; i < threads; i++) wait_for(&stopped);
    for (int i = 0; i < threads; i++) sem_post(&go_on);
    for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
  }
  puts("all children ended well");
  return 0;
}
