// Two threads free the same block; by default the flush notices.
//
// default: double free: ADDRESS is a block of 48 bytes, free already
// check: double free: ADDRESS is a block of 48 bytes, free already

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

static void *release(void *block) {
  free(block);
  return NULL;
}

int main(void) {
  char *block = malloc(48);
  char *kept = malloc(48);
  pthread_t thread;
  if (pthread_create(&thread, NULL, release, block) != 0) return 1;
  pthread_join(thread, NULL);
  free(block);
  malloc_trim(0);
  free(kept);
}
