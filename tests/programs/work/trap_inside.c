// Runs a signal handler while its thread is inside the allocator with its locks held, at a known place: a filter of
// system calls turns the mapping of a superslab into SIGSYS, and the handler answers it with ENOMEM. The argument says
// what the handler does: "allocate", which cannot be served; "fork", with children that end at once, that go on from
// where the signal came, and that fork in the handler again. Other threads hold locks meanwhile and wait for those of
// the interrupted one.

#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { superslab = 2 << 20, expected = 3, turns = 12, churners = 4, blocks = 15000, block_size = 120000, unavailable = 77 };

static int forking, in_child;
static volatile int traps, children;

static _Noreturn void fail(const char *what) {
  (void)!write(1, what, strlen(what));
  (void)!write(1, "\n", 1);
  _exit(1);
}

static void *checked(void *block, size_t size) {
  if (block == NULL) fail("out of memory");
  return memset(block, 1, size);
}

// Small enough to be had from what there is: of few sizes, as each may need a slab, and one superslab may be left.
static void use_little(void) {
  void *held[300];
  for (int i = 0; i < 300; i++) held[i] = checked(malloc(1 + i % 10 * 150), 1 + i % 10 * 150);
  for (int i = 0; i < 300; i++) free(held[i]);
}

static void await(pid_t child) {
  int status = 0;
  if (child < 0) fail("fork refused");
  while (waitpid(child, &status, 0) != child) {
    if (errno != EINTR) fail("no child");
  }
  if (WIFSIGNALED(status)) fail("a child hung or died by a signal");
  if (WEXITSTATUS(status) != expected) fail("a child failed");
  children++;
}

static void fork_here(int depth) {
  for (int kind = 0; kind < 3; kind++) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);
      in_child = 1;
      if (kind == 0) _exit(expected);
      if (kind == 2 && depth == 0) {
        fork_here(1);
        // What is forked inside comes back here, too, when it goes on.
        if (in_child == 1) _exit(expected);
      }
      in_child = 2;
      return;
    }
    await(child);
    if (in_child == 2) return;
  }
}

static void handle(int number, siginfo_t *info, void *context) {
  (void)number;
  (void)info;
  ucontext_t *machine = context;
#if defined(__x86_64__)
  machine->uc_mcontext.gregs[REG_RAX] = -ENOMEM;
#elif defined(__aarch64__)
  machine->uc_mcontext.regs[0] = (unsigned long long)-ENOMEM;
#endif
  traps++;
  if (in_child) return;
  if (!forking) {
    void *volatile block = malloc(4000);
    fail(block == NULL ? "it was refused" : "it was served");
  }
  fork_here(0);
}

static void *churn(void *argument) {
  // What they free leaves room for runs of half a superslab rarely, so that the main thread soon asks for a new one.
  const size_t size = 20000 + 10000 * *(int *)argument;
  for (;;) {
    void *held[60];
    for (int i = 0; i < 60; i++) held[i] = malloc(size);
    for (int i = 0; i < 60; i++) free(held[i]);
  }
  return NULL;
}

static void trap_superslabs(void) {
  struct sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, superslab, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {sizeof program / sizeof *program, program};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
    _exit(unavailable);
  }
}

int main(int count, char **arguments) {
  if (count != 2) return 2;
  forking = strcmp(arguments[1], "fork") == 0;
  alarm(100);
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGSYS, &action, NULL);
  use_little();
  static int numbers[churners];
  pthread_t thread;
  for (int i = 0; forking && i < churners; i++) {
    numbers[i] = i;
    if (pthread_create(&thread, NULL, churn, &numbers[i]) != 0) return 2;
  }
  trap_superslabs();
  static void *held[blocks];
  const int turns_wanted = forking ? turns : 1;
  for (int turn = 0; turn < turns_wanted && !in_child; turn++) {
    const int before = traps;
    int some = 0;
    // The class's lock is held, and the page heap's.
    while (some < blocks && (held[some] = malloc(block_size)) != NULL && traps == before) {
      memset(held[some], 1, 4000);
      some++;
    }
    if (traps == before) continue;
    for (int i = 0; i < some; i++) free(held[i]);
    if (some < blocks) free(held[some]);
    use_little();
  }
  use_little();
  if (in_child) {
    // The interrupted code came to its end; a thread can be had, and a child.
    const pid_t child = fork();
    use_little();
    if (child == 0) _exit(expected);
    await(child);
    _exit(expected);
  }
  if (traps == 0) fail("no superslab was asked for");
  puts("the handler's children ended well");
  fflush(stdout);
  _exit(0);
}
