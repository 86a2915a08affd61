// Threads whose first call of the malloc family is free, and which call nothing else of it; the main thread
// allocates, and checks what it keeps.

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { threads = 48, blocks = 600 };

struct batch {
  void *given[blocks];
  unsigned char *kept[blocks];
  size_t size[blocks];
};

static void *free_all(void *argument) {
  struct batch *batch = argument;
  for (int i = 0; i < blocks; i++) free(batch->given[i]);
  return NULL;
}

static void *free_null(void *argument) {
  free(NULL);
  return argument;
}

static void *allocate(size_t size, int kind) {
  void *block = NULL;
  switch (kind % 5) {
    case 0: return malloc(size);
    case 1: return calloc(1, size);
    case 2: return realloc(malloc(size / 2), size);
    case 3: return aligned_alloc(256, (size + 255) / 256 * 256);
    default: return posix_memalign(&block, 4096, size) == 0 ? block : NULL;
  }
}

static void *checked(void *block) {
  if (block == NULL) {
    puts("out of memory");
    exit(1);
  }
  return block;
}

int main(void) {
  struct batch *batches = checked(calloc(threads, sizeof *batches));
  uint32_t state = 1;
  pthread_t thread;
  if (pthread_create(&thread, NULL, free_null, NULL) != 0) return 1;
  pthread_join(thread, NULL);
  for (int turn = 0; turn < threads; turn++) {
    struct batch *batch = &batches[turn];
    for (int i = 0; i < blocks; i++) {
      state = state * 1664525 + 1013904223;
      const size_t size = 1 + (state >> 8) % ((state >> 28) == 0 ? 300000 : 2000);
      batch->given[i] = memset(checked(allocate(size, i)), turn, size);
      batch->size[i] = size;
      batch->kept[i] = memset(checked(allocate(size, i + 1)), i, size);
    }
    if (pthread_create(&thread, NULL, free_all, batch) != 0) return 1;
    pthread_join(thread, NULL);
    // Half of what is kept goes, so that the next turn meets blocks that both threads freed.
    for (int i = 0; i < blocks; i += 2) {
      free(batch->kept[i]);
      batch->kept[i] = NULL;
    }
  }
  unsigned long sum = 0;
  for (int turn = 0; turn < threads; turn++) {
    for (int i = 1; i < blocks; i += 2) {
      const struct batch *batch = &batches[turn];
      for (size_t byte = 0; byte < batch->size[i]; byte++) {
        if (batch->kept[i][byte] != (unsigned char)i) {
          printf("block %d of turn %d was overwritten\n", i, turn);
          return 1;
        }
      }
      sum += batch->size[i];
      free(batch->kept[i]);
    }
  }
  free(batches);
  printf("%lu bytes intact\n", sum);
  return 0;
}
