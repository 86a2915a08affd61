// Opened by plugin_host.c: allocates in its constructor, in a thread-local store of its own, and hands blocks over.

#include <stdlib.h>
#include <string.h>

static char *from_constructor;
static __thread char store[4000];
static __thread char *block_of_thread;

__attribute__((constructor)) static void opened(void) {
  from_constructor = malloc(5000);
  if (from_constructor != NULL) memset(from_constructor, 'c', 5000);
}

__attribute__((destructor)) static void closed(void) { free(from_constructor); }

// A block that the host frees.
char *plugin_text(const char *text) {
  memset(store, 's', sizeof store);
  free(block_of_thread);
  block_of_thread = malloc(300);
  return from_constructor != NULL && from_constructor[4999] == 'c' && block_of_thread != NULL ? strdup(text) : NULL;
}

// Gives back what the calling thread keeps here.
void plugin_forget(void) {
  free(block_of_thread);
  block_of_thread = NULL;
}
