// limits NAME [NUMBER]: takes memory until there is no more under the limit called NAME, frees it, and takes it again
// in other sizes. Says in one line what was wrong, if anything was.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { mebi = 1 << 20, page = 4096 };

static const size_t sizes[] = {16, 100, 1000, 33000, 131072, 200000, 1048576, 3145728, 4194304};
enum { size_count = sizeof sizes / sizeof sizes[0] };

#define fail(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))

// A line of /proc/self/status in bytes.
static size_t status(const char *name) {
  static char text[8192];
  int file = open("/proc/self/status", O_RDONLY);
  ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
  close(file);
  if (length <= 0) fail("/proc/self/status cannot be read");
  text[length] = 0;
  const char *found = strstr(text, name);
  if (found == NULL) fail("no %s in /proc/self/status", name);
  return strtoull(found + strlen(name), NULL, 10) * 1024;
}

// Every block carries the address of the next one of its chain, and its size.
struct block {
  struct block *next;
  size_t size;
};

static struct block *take(size_t size) {
  errno = 0;
  struct block *block = malloc(size);
  if (block == NULL) {
    if (errno != ENOMEM) fail("malloc(%zu) gave NULL and errno %d", size, errno);
    return NULL;
  }
  *block = (struct block){NULL, size};
  // The end of the block is its own as well.
  ((char *)block)[size - 1] ^= 0;
  return block;
}

// Takes blocks until there are no more, or `most` bytes. Gives their bytes, as rounded up by the allocator.
static size_t fill(struct block **chain, size_t size, size_t most) {
  size_t bytes = 0;
  while (bytes + size <= most) {
    struct block *block = take(size);
    if (block == NULL) break;
    block->next = *chain;
    *chain = block;
    bytes += malloc_usable_size(block);
  }
  return bytes;
}

static void empty(struct block **chain, size_t size) {
  while (*chain != NULL) {
    struct block *block = *chain;
    *chain = block->next;
    if (block->size != size) fail("a block of %zu bytes says that it has %zu", size, block->size);
    free(block);
  }
}

// The other doors say no in the same way, and a block that cannot grow is as it was.
static void refuse(void) {
  struct block *chain = NULL;
  fill(&chain, 4 * mebi, SIZE_MAX);
  struct block *block = chain;
  void *aligned = &aligned;
  errno = 0;
  if (calloc(3, 5 * mebi) != NULL || errno != ENOMEM) fail("calloc: errno %d", errno);
  errno = 0;
  if (block != NULL && (realloc(block, 64u * mebi) != NULL || errno != ENOMEM)) fail("realloc: errno %d", errno);
  if (block != NULL && block->size != 4 * mebi) fail("realloc changed a block that it could not grow");
  errno = 0;
  if (aligned_alloc(16 * mebi, 16 * mebi) != NULL || errno != ENOMEM) fail("aligned_alloc: errno %d", errno);
  if (posix_memalign(&aligned, 64, 16 * mebi) != ENOMEM || aligned != &aligned) fail("posix_memalign");
  errno = 0;
  if (pvalloc(16 * mebi) != NULL || errno != ENOMEM) fail("pvalloc: errno %d", errno);
  empty(&chain, 4 * mebi);
}

// Every size after every other one. `room` is what the limit leaves to the program.
static void in_other_sizes(size_t room) {
  struct block *chain = NULL;
  for (int first = 0; first < size_count; first++) {
    for (int second = 0; second < size_count; second++) {
      for (int turn = 0; turn < 2; turn++) {
        size_t size = sizes[turn == 0 ? first : second];
        size_t got = fill(&chain, size, SIZE_MAX);
        empty(&chain, size);
        // Two superslabs for our own records, one block that does not fit, and what is left over of superslabs.
        size_t slack = 4 * mebi + size + room / 16;
        if (got + slack < room) {
          fail("%zu of %zu bytes in blocks of %zu, after %zu and %zu", got, room, size, sizes[first], sizes[second]);
        }
      }
    }
  }
}

static void limit(int resource, size_t bytes) {
  struct rlimit present;
  getrlimit(resource, &present);
  present.rlim_cur = bytes;
  if (present.rlim_max < bytes) present.rlim_max = bytes;
  if (setrlimit(resource, &present) != 0) fail("the limit cannot be set: errno %d", errno);
}

static void of_address_space(size_t room) {
  free(malloc(1));
  limit(RLIMIT_AS, status("VmSize:") + room);
  refuse();
  in_other_sizes(room);
}

static void of_data(size_t room) {
  free(malloc(1));
  limit(RLIMIT_DATA, status("VmData:") + room);
  refuse();
  in_other_sizes(room);
}

// The limit was there before main; nothing is known of what it leaves, but the first filling shows it.
static void from_the_start(size_t unused) {
  (void)unused;
  refuse();
  struct block *chain = NULL;
  size_t room = fill(&chain, 131072, SIZE_MAX);
  empty(&chain, 131072);
  in_other_sizes(room);
}

// Under HAKMEM_LIMIT, which counts what is touched: all of it is.
static void limited(size_t unused) {
  from_the_start(unused);
  struct block *chain = NULL;
  fill(&chain, 100000, SIZE_MAX);
  for (struct block *block = chain; block != NULL; block = block->next) memset(block + 1, 1, block->size - sizeof *block);
  empty(&chain, 100000);
  in_other_sizes(0);
}

static void lowered(size_t bytes) {
  free(malloc(1));
  limit(RLIMIT_AS, bytes);
  struct block *chain = NULL;
  size_t got = fill(&chain, 100000, SIZE_MAX);
  if (got < bytes / 2) fail("%zu bytes after the limit was lowered to %zu", got, bytes);
  empty(&chain, 100000);
  in_other_sizes(got);
}

// Started under a low limit, which goes away.
static void raised(size_t unused) {
  (void)unused;
  struct block *early = NULL, *late = NULL;
  fill(&early, 1000, 16 * mebi);
  limit(RLIMIT_AS, RLIM_INFINITY);
  // 48 GiB of address space, of which nothing is touched, then blocks of every size below.
  enum { count = 48 };
  void *far[count];
  for (int i = 0; i < count; i++) {
    far[i] = malloc((size_t)1 << 30);
    if (far[i] == NULL) fail("no %dth block of 1 GiB after the limit was raised", i + 1);
  }
  for (int i = 0; i < size_count; i++) {
    size_t got = fill(&late, sizes[i], 32 * mebi);
    if (got + sizes[i] < 32 * mebi) fail("%zu bytes in blocks of %zu after the limit was raised", got, sizes[i]);
    empty(&late, sizes[i]);
  }
  fill(&late, 1000, 16 * mebi);
  empty(&early, 1000);
  empty(&late, 1000);
  for (int i = 0; i < count; i++) free(far[i]);
}

// Memory that the process may have locked: pages cannot be given back by madvise then.
static void locked(size_t bytes) {
  limit(RLIMIT_MEMLOCK, bytes);
  if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) fail("setresuid: errno %d", errno);
  free(malloc(1));
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    fail("mlockall of %zu bytes under a limit of %zu: errno %d", status("VmSize:"), bytes, errno);
  }
  size_t room = bytes - status("VmLck:");
  refuse();
  in_other_sizes(room);
}

// The process has as many mappings as it may, but for `spare`.
static void of_mappings(size_t spare) {
  enum { each = 24 * mebi };
  // Blocks that lie side by side, so that freeing one of them splits a mapping: which is what will be refused.
  static struct block *chains[size_count][2];
  for (int i = 0; i < size_count; i++) {
    for (size_t bytes = 0; bytes < 2 * each; bytes += sizes[i]) {
      struct block *block = take(sizes[i]);
      if (block == NULL) fail("no memory yet");
      if (sizes[i] >= mebi) memset(block + 1, 1, sizes[i] - sizeof *block);
      // In stretches of half a superslab and more, so that some become empty.
      struct block **chain = &chains[i][bytes / (3 * mebi) % 2];
      block->next = *chain;
      *chain = block;
    }
  }
  enum { pages = 1 << 21 };
  char *space = mmap(NULL, (size_t)pages * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) fail("no address space to make mappings in");
  size_t made = 0;
  while (made < pages && mprotect(space + made * page, page, PROT_READ) == 0) made += 2;
  if (made == pages) fail("no limit of mappings was met");
  // One more fits, and then mmap itself is refused.
  while (mmap(NULL, page, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) made++;
  for (size_t i = 0; i < spare; i++) munmap(space + 2 * i * page, page);

  refuse();
  // The largest first: they leave no room that smaller ones could have had anyway.
  for (int i = size_count - 1; i >= 0; i--) {
    size_t before = status("VmRSS:");
    empty(&chains[i][0], sizes[i]);
    // Those above 1 MiB wait for a while to be allocated again, and others where that was seen before.
    malloc_trim(0);
    size_t after = status("VmRSS:");
    if (sizes[i] >= mebi && before < after + each / 2) fail("freed blocks of %zu bytes stayed resident", sizes[i]);
    for (int other = 0; other < size_count; other++) {
      struct block *chain = NULL;
      // What is free lies in stretches, each perhaps too short for a block that is larger than those that were there.
      if (sizes[other] > mebi && sizes[other] > sizes[i]) continue;
      size_t got = fill(&chain, sizes[other], each / 2);
      if (got + sizes[other] < each / 2) {
        fail("%zu bytes of what %d bytes in blocks of %zu left, in blocks of %zu", got, each, sizes[i], sizes[other]);
      }
      empty(&chain, sizes[other]);
    }
  }
  munmap(space, (size_t)pages * page);
  for (int i = 0; i < size_count; i++) empty(&chains[i][1], sizes[i]);
  malloc_trim(0);
  size_t left = status("VmRSS:");
  if (left > 24 * mebi) fail("%zu bytes stayed resident", left);
}

// What a small process has mapped.
static void mapped(size_t unused) {
  (void)unused;
  free(malloc(100));
  static char text[65536];
  int file = open("/proc/self/maps", O_RDONLY);
  for (ssize_t length; (length = read(file, text, sizeof text)) > 0;) {
    if (write(1, text, (size_t)length) != length) fail("maps cannot be written");
  }
  exit(0);
}

// Leaves a core file: a megabyte in use, and much more that nobody touched.
static void core(size_t untouched) {
  struct block *chain = NULL;
  fill(&chain, 1000, mebi);
  if (malloc(untouched) == NULL) fail("no memory");
  abort();
}

static const struct {
  const char *name;
  void (*run)(size_t number);
} limits[] = {
    {"address-space", of_address_space},
    {"data", of_data},
    {"from-the-start", from_the_start},
    {"limited", limited},
    {"lowered", lowered},
    {"raised", raised},
    {"locked", locked},
    {"mappings", of_mappings},
    {"mapped", mapped},
    {"core", core},
};

int main(int argc, char **argv) {
  size_t number = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
  for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
    if (argc > 1 && strcmp(limits[i].name, argv[1]) == 0) {
      limits[i].run(number);
      puts("usable again");
      return 0;
    }
  }
  fail("no limit of that name");
}
