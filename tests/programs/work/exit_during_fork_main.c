// The program of exit_during_fork.c, which does it all.

extern void fork_and_exit(void) __attribute__((weak));

int main(void) {
  if (fork_and_exit == 0) return 2;
  fork_and_exit();
}
