// huge WHAT: freed blocks above 1 MiB wait a while to be allocated again. Says in one line what was wrong, if anything
// was.

#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { mebi = 1 << 20, page = 4096 };

#define fail(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))

static size_t resident(void) {
  FILE *file = fopen("/proc/self/smaps_rollup", "r");
  char line[256];
  size_t kibi = 0;
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "Rss: %zu", &kibi) == 1) break;
  }
  if (file == NULL || kibi == 0) fail("no Rss in /proc/self/smaps_rollup");
  fclose(file);
  return kibi * 1024;
}

static char *touched(size_t size) {
  char *block = malloc(size);
  if (block == NULL) fail("malloc(%zu) gave NULL", size);
  for (size_t at = 0; at < size; at += page) block[at] = 1;
  return block;
}

// Blocks come and go, more than magazines hold.
static void be_busy(void) {
  static void *blocks[5000];
  for (int at = 0; at < 5000; at++) blocks[at] = malloc(100);
  for (int at = 0; at < 5000; at++) free(blocks[at]);
}

static double seconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

// What was freed waits, and leaves while the program does something else.
static void leaves(void) {
  be_busy();
  size_t before = resident();
  char *block = touched(64 * mebi);
  free(block);
  if (touched(64 * mebi) != block) fail("the block did not wait");
  free(block);
  if (resident() < before + 60 * mebi) fail("the pages did not wait");
  double start = seconds();
  while (resident() > before + 8 * mebi) {
    if (seconds() - start > 60) fail("%zu more bytes are resident for ever", resident() - before);
    be_busy();
    usleep(20000);
  }
}

// What waits behind a block that grew into the place of another leaves, and the block stays.
static void rests_leave(void) {
  be_busy();
  size_t before = resident();
  char *whole = touched(64 * mebi);
  char *block = touched(mebi);
  free(whole);
  block = realloc(block, 2 * mebi);
  if (block != whole) fail("the block did not grow into what waited");
  block = realloc(block, 20 * mebi);
  if (block != whole) fail("the block did not grow where it lay");
  block[20 * mebi - 1] = 42;
  if (resident() < before + 60 * mebi) fail("the pages did not wait");
  struct mallinfo2 info = mallinfo2();
  if (info.hblkhd != 20 * mebi || info.keepcost < 44 * mebi) fail("what waits is not shown as free");
  double start = seconds();
  while (resident() > before + 28 * mebi) {
    if (seconds() - start > 60) fail("%zu more bytes are resident for ever", resident() - before);
    be_busy();
    usleep(20000);
  }
  block = realloc(block, 30 * mebi);
  for (size_t at = 0; at < mebi; at += page) if (block[at] != 1) fail("the block lost what was written");
  if (block[20 * mebi - 1] != 42) fail("the block lost its end");
  free(block);
}

static void leaves_when_asked(void) {
  size_t before = resident();
  free(touched(64 * mebi));
  if (resident() < before + 60 * mebi) fail("the pages did not wait");
  struct mallinfo2 info = mallinfo2();
  if (info.hblks != 0 || info.fordblks < 64 * mebi || info.keepcost < 64 * mebi) fail("what waits is not shown as free");
  if (malloc_trim(0) != 1) fail("malloc_trim gave back nothing");
  if (resident() > before + 8 * mebi) fail("the pages stayed");
}

// What is larger than all that may wait does not.
static void leaves_at_once(void) {
  size_t before = resident();
  free(touched(200 * mebi));
  if (resident() > before + 8 * mebi) fail("the pages stayed");
  char *blocks[100];
  for (int at = 0; at < 100; at++) blocks[at] = touched(2 * mebi);
  for (int at = 0; at < 100; at++) free(blocks[at]);
  if (resident() > before + 80 * mebi) fail("more waits than may");
}

static void *work(void *argument) {
  unsigned mark = *(unsigned *)argument * 100;
  unsigned seed = mark;
  char *blocks[4] = {0};
  for (int round = 0; round < 3000; round++) {
    int at = rand_r(&seed) % 4;
    if (blocks[at] != NULL) {
      size_t size = malloc_usable_size(blocks[at]);
      if (rand_r(&seed) % 2 == 0) {
        size_t wanted = size + rand_r(&seed) % (4 * mebi);
        blocks[at] = realloc(blocks[at], wanted);
        if (blocks[at] == NULL) fail("no memory");
        if (*(unsigned *)(blocks[at] + size - 4) != mark + (unsigned)at) fail("growing lost the end of a block");
        size = malloc_usable_size(blocks[at]);
        *(unsigned *)(blocks[at] + size - 4) = mark + (unsigned)at;
      }
      if (*(unsigned *)blocks[at] != mark + (unsigned)at) fail("another wrote the start of a block");
      if (*(unsigned *)(blocks[at] + size - 4) != mark + (unsigned)at) fail("another wrote the end of a block");
      free(blocks[at]);
    }
    size_t size = (rand_r(&seed) % 8 + 1) * (mebi + page) + rand_r(&seed) % mebi;
    int cleared = rand_r(&seed) % 8 == 0;
    blocks[at] = cleared ? calloc(1, size) : malloc(size);
    if (blocks[at] == NULL) fail("no memory");
    if (cleared && (*(unsigned *)blocks[at] != 0 || blocks[at][size - 1] != 0)) fail("calloc gave what is not zero");
    *(unsigned *)blocks[at] = mark + (unsigned)at;
    *(unsigned *)(blocks[at] + malloc_usable_size(blocks[at]) - 4) = mark + (unsigned)at;
    if (rand_r(&seed) % 300 == 0) malloc_trim(0);
  }
  for (int at = 0; at < 4; at++) free(blocks[at]);
  return NULL;
}

static void threads(void) {
  pthread_t all[4];
  unsigned seeds[4] = {1, 2, 3, 4};
  for (int at = 0; at < 4; at++) pthread_create(&all[at], NULL, work, &seeds[at]);
  for (int at = 0; at < 20; at++) {
    pid_t child = fork();
    if (child == 0) {
      unsigned seed = (unsigned)at + 100;
      for (int block = 0; block < 50; block++) free(touched((rand_r(&seed) % 8 + 1) * mebi + page));
      _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) fail("a child ended with status %d", status);
  }
  for (int at = 0; at < 4; at++) pthread_join(all[at], NULL);
  malloc_trim(0);
  if (mallinfo2().hblks != 0) fail("blocks are left");
}

int main(int count, char **arguments) {
  const char *what = count == 2 ? arguments[1] : "";
  if (strcmp(what, "leaves") == 0) leaves();
  else if (strcmp(what, "rests-leave") == 0) rests_leave();
  else if (strcmp(what, "leaves-when-asked") == 0) leaves_when_asked();
  else if (strcmp(what, "leaves-at-once") == 0) leaves_at_once();
  else if (strcmp(what, "threads") == 0) threads();
  else fail("huge: WHAT must be leaves, rests-leave, leaves-when-asked, leaves-at-once or threads");
  puts("as it should be");
}
