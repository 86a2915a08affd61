// The program that runs beside wrapper.c: allocates in its threads, and says whether the wrapper was called.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *run(void *argument) {
  for (int i = 1; i < 3000; i++) {
    char *block = malloc(i);
    char *other = realloc(strdup("text"), i + 5);
    if (block == NULL || other == NULL || strcmp(other, "text") != 0) exit(1);
    memset(block, 1, i);
    free(block);
    free(other);
  }
  return argument;
}

int main(void) {
  pthread_t thread[4];
  for (int i = 0; i < 4; i++) {
    if (pthread_create(&thread[i], NULL, run, NULL) != 0) return 1;
  }
  for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
  const unsigned long *wrapped = dlsym(RTLD_DEFAULT, "wrapped_calls");
  if (wrapped == NULL) return 2;
  puts(*wrapped >= 4 * 2999 ? "wrapped" : "not wrapped");
  return 0;
}
