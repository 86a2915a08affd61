// Opens and closes plugin.c again and again, in several threads, and frees what it handed over, also after it was
// closed. With the argument "deep", the plugin prefers the libraries it was linked with: its own malloc and free are
// then libc's, while the texts, which libc's strdup allocates, come from the malloc of the program.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { threads = 4, turns = 60, texts = 50 };

static const char *path;
static int flags;

static void *run(void *argument) {
  unsigned long *sum = argument;
  for (int turn = 0; turn < turns; turn++) {
    void *plugin = dlopen(path, flags);
    if (plugin == NULL) {
      puts(dlerror());
      exit(1);
    }
    char *(*plugin_text)(const char *) = (char *(*)(const char *))dlsym(plugin, "plugin_text");
    void (*plugin_forget)(void) = (void (*)(void))dlsym(plugin, "plugin_forget");
    char *handed[texts];
    for (int i = 0; i < texts; i++) {
      char text[200] = {0};
      memset(text, 'a' + i % 26, (size_t)(turn + i * 3) % 199);
      handed[i] = plugin_text(text);
      if (handed[i] == NULL || strcmp(handed[i], text) != 0) {
        puts("the plugin failed");
        exit(1);
      }
      *sum += strlen(text);
    }
    for (int i = 0; i < texts / 2; i++) free(handed[i]);
    plugin_forget();
    dlclose(plugin);
    if (dlsym(RTLD_DEFAULT, "no_such_symbol") != NULL || dlerror() == NULL) exit(1);
    for (int i = texts / 2; i < texts; i++) free(handed[i]);
  }
  return NULL;
}

int main(int count, char **arguments) {
  if (count < 2) return 2;
  path = arguments[1];
  flags = RTLD_NOW | RTLD_LOCAL | (count > 2 && strcmp(arguments[2], "deep") == 0 ? RTLD_DEEPBIND : 0);
  unsigned long sums[threads] = {0};
  pthread_t thread[threads];
  for (int i = 0; i < threads; i++) pthread_create(&thread[i], NULL, run, &sums[i]);
  for (int i = 0; i < threads; i++) {
    pthread_join(thread[i], NULL);
    printf("%lu\n", sums[i]);
  }
  return 0;
}
