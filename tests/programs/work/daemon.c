// Leaves its parent, its session and its threads behind like a server that goes into the background, and goes on
// allocating. The standard output stays open and tells the reader of the pipe when the daemon has ended.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static volatile int stop;

static void *churn(void *argument) {
  while (!stop) {
    char *blocks[64];
    for (int i = 0; i < 64; i++) blocks[i] = malloc(16 + i * 40);
    for (int i = 0; i < 64; i++) free(blocks[i]);
  }
  return argument;
}

static void *count(void *argument) {
  unsigned long *sum = argument;
  for (int turn = 1; turn <= 2000; turn++) {
    char *block = malloc(turn);
    if (block == NULL) return NULL;
    memset(block, 1, turn);
    for (int i = 0; i < turn; i++) *sum += block[i];
    free(block);
  }
  return argument;
}

static void go(void) {
  const pid_t child = fork();
  if (child < 0) _exit(1);
  if (child > 0) _exit(0);
}

int main(void) {
  char *lines[3000];
  for (int i = 0; i < 3000; i++) {
    lines[i] = malloc(32);
    snprintf(lines[i], 32, "line %d", i);
  }
  pthread_t background[2];
  for (int i = 0; i < 2; i++) pthread_create(&background[i], NULL, churn, NULL);
  // The threads do not exist in the children; whatever they held of the allocator at that moment must.
  go();
  // Nobody else ends a daemon that hangs.
  alarm(60);
  setsid();
  go();
  alarm(60);
  unsigned long sums[4] = {0};
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, count, &sums[i]);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  unsigned long length = 0;
  for (int i = 0; i < 3000; i++) {
    lines[i] = realloc(lines[i], 64);
    length += strlen(lines[i]);
    free(lines[i]);
  }
  printf("%lu %lu %lu %lu %lu\n", sums[0], sums[1], sums[2], sums[3], length);
  puts("the daemon ended");
  return 0;
}
