// An audit library: the loader calls it for every object and symbol, before anything else runs, and it allocates in
// each call, from the malloc of its own namespace.

#define _GNU_SOURCE
#include <link.h>
#include <stdlib.h>

unsigned int la_version(unsigned int version) {
  free(malloc(100));
  return version;
}

unsigned int la_objopen(struct link_map *map, Lmid_t namespace, uintptr_t *cookie) {
  (void)map;
  (void)namespace;
  (void)cookie;
  free(malloc(3000));
  return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned int index, uintptr_t *from, uintptr_t *to, unsigned int *flags,
                       const char *name) {
  (void)index;
  (void)from;
  (void)to;
  (void)flags;
  (void)name;
  free(malloc(30));
  return symbol->st_value;
}
