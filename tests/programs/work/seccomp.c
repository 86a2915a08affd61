// seccomp PATH NUMBER…: allows only the system calls with these numbers, and then does what PATH says. Any other call
// ends the process with status 31 and a line that gives its number, if that may be written.

#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { mebi = 1 << 20, calls_max = 64, thread_count = 8 };

static atomic_int ready, go, done;
static atomic_bool reported;
static pthread_t handles[thread_count];

static void say(const char *text) {
  if (write(2, text, strlen(text)) < 0) _exit(2);
}

static void report(int signal_number, siginfo_t *info, void *context) {
  (void)signal_number;
  (void)context;
  // To write may be what is not allowed.
  if (atomic_exchange(&reported, 1)) _exit(31);
  char text[] = "system call 000 is not allowed\n";
  for (int i = 0, number = info->si_syscall; i < 3; i++, number /= 10) text[14 - i] = (char)('0' + number % 10);
  say(text);
  _exit(31);
}

static void allow(int count, char **numbers) {
  // What this program itself does beside the allocator.
  static const uint32_t own[] = {SYS_exit_group, SYS_exit, SYS_rt_sigreturn, SYS_sched_yield};
  enum { own_count = sizeof own / sizeof own[0] };
  struct sock_filter filter[(calls_max + own_count) * 2 + 2];
  int length = 0;
  filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int i = 0; i < count + own_count; i++) {
    uint32_t number = i < count ? (uint32_t)atoi(numbers[i]) : own[i - count];
    filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
  filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
  struct sock_fprog program = {(unsigned short)length, filter};
  struct sigaction action = {.sa_sigaction = report, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGSYS, &action, NULL);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) {
    say("no filter can be set here\n");
    _exit(77);
  }
}

// Takes and frees blocks of many sizes, and lets each grow and shrink.
static void work(unsigned seed) {
  static const size_t sizes[] = {16, 100, 5000, 100000, 300000, 2 * mebi, 5 * mebi};
  enum { held_count = 64 };
  char *held[held_count] = {NULL};
  for (int i = 0; i < 5000; i++) {
    seed = seed * 1103515245 + 12345;
    unsigned at = seed >> 16 & (held_count - 1), kind = seed >> 8 & 15;
    size_t size = sizes[kind % 7];
    if (held[at] != NULL && kind < 8) {
      held[at] = realloc(held[at], size);
    } else {
      free(held[at]);
      held[at] = malloc(size);
    }
    if (held[at] == NULL) {
      say("no memory\n");
      _exit(2);
    }
    held[at][0] = held[at][size - 1] = 1;
  }
  for (int i = 0; i < held_count; i++) free(held[i]);
}

static void *thread(void *number) {
  void *mine[512];
  for (int i = 0; i < 512; i++) mine[i] = malloc(64);
  ready++;
  while (!go) sched_yield();
  work((unsigned)(uintptr_t)number);
  // Most of this is under one lock, and there are more threads than a machine has time for at once.
  for (int i = 0; i < 100000; i++) {
    void *volatile block = malloc(300000);
    free(block);
  }
  for (int i = 0; i < 512; i++) free(mine[i]);
  done++;
  // Its end is another path.
  while (go != 2) sched_yield();
  return NULL;
}

static void blocks(void) { work(1); }

static void purge(void) {
  static void *all[100000];
  for (int i = 0; i < 100000; i++) memset(all[i] = malloc(200), 1, 200);
  for (int i = 0; i < 100000; i++) if (i % 1000 != 0) free(all[i]);
  malloc_trim(0);
  for (int i = 0; i < 100000; i += 1000) free(all[i]);
  malloc_trim(0);
}

// Several threads at once, so that some wait for a lock.
static void threads(void) {
  go = 1;
  while (done < thread_count) sched_yield();
}

// The same threads end, and flush what they hold. libc's part of that needs calls of the list, and no others.
static void ends(void) {
  go = 2;
  for (int i = 0; i < thread_count; i++) pthread_join(handles[i], NULL);
}

// Blocks far from where the process began: the map of addresses gets another part.
static void far(void) {
  for (int i = 0; i < 40; i++) {
    if (malloc(1024u * mebi) == NULL) _exit(2);
  }
}

// One block too many, and the line that says so.
static void refused(void) {
  void *volatile block = NULL;
  do block = malloc(64 * mebi); while (block != NULL);
  void *volatile small;
  do small = malloc(100000); while (small != NULL);
  free(malloc(100));
}

static void misuse(void) {
  char *volatile foreign = malloc(100);
  free(foreign + 64 * mebi);
}

static const struct {
  const char *name;
  void (*run)(void);
} paths[] = {{"blocks", blocks}, {"purge", purge}, {"threads", threads},
             {"ends", ends},     {"far", far},     {"refused", refused}, {"misuse", misuse}};

int main(int argc, char **argv) {
  if (argc < 2 || argc > calls_max) return 2;
  if (strcmp(argv[1], "refused") == 0) {
    struct rlimit limit = {1024u * mebi, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &limit);
  }
  if (strcmp(argv[1], "far") == 0) {
    // Started under a low limit, so that the map is small.
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &limit) != 0) return 2;
  }
  if (strcmp(argv[1], "threads") == 0 || strcmp(argv[1], "ends") == 0) {
    for (uintptr_t i = 0; i < thread_count; i++) pthread_create(&handles[i], NULL, thread, (void *)i);
    while (ready < thread_count) sched_yield();
  }
  for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
    if (strcmp(argv[1], paths[i].name) != 0) continue;
    allow(argc - 2, argv + 2);
    paths[i].run();
    _exit(0);
  }
  return 2;
}
