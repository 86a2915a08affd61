// Opens a library by its path and allocates by its hak_malloc, and says whether the process has more rights than its
// caller.

#include <dlfcn.h>
#include <stdio.h>
#include <sys/auxv.h>

int main(int argument_count, char **arguments) {
  if (argument_count != 2) return 2;
  void *library = dlopen(arguments[1], RTLD_NOW);
  if (library == NULL) {
    puts(dlerror());
    return 1;
  }
  void *(*allocate)(size_t) = (void *(*)(size_t))dlsym(library, "hak_malloc");
  if (allocate == NULL || allocate(48) == NULL) return 1;
  puts(getauxval(AT_SECURE) ? "more rights" : "the same rights");
}
