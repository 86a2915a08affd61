// A thread calls exit while the main thread is inside fork: the destructors of every object preloaded before this one
// run between the handlers of that fork. What they take away then, such as the handlers themselves, must not leave
// malloc locked. To be preloaded behind malloc: so this object's constructor comes before that of malloc, its prepare
// handler after, and its destructor after.

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_t exit_now, destructors_run, forked;
static int armed;

static void prepare(void) {
  if (!armed) return;
  sem_post(&exit_now);
  sem_wait(&destructors_run);
}

__attribute__((constructor)) static void construct(void) {
  sem_init(&exit_now, 0, 0);
  sem_init(&destructors_run, 0, 0);
  sem_init(&forked, 0, 0);
  if (pthread_atfork(prepare, NULL, NULL) != 0) abort();
}

__attribute__((destructor)) static void destruct(void) {
  if (!armed) return;
  sem_post(&destructors_run);
  sem_wait(&forked);
  // More than any magazine holds.
  void *blocks[10000];
  for (int i = 0; i < 10000; i++) blocks[i] = malloc(i);
  for (int i = 0; i < 10000; i++) free(blocks[i]);
  if (write(1, "allocated\n", 10) != 10) _exit(1);
}

static void *call_exit(void *argument) {
  sem_wait(&exit_now);
  exit(argument == NULL ? 7 : 1);
}

// Called by the program, which has no part in the above.
void fork_and_exit(void) {
  pthread_t thread;
  armed = 1;
  if (pthread_create(&thread, NULL, call_exit, NULL) != 0) _exit(1);
  pid_t child = fork();
  if (child == 0) {
    free(malloc(100000));
    _exit(3);
  }
  int status;
  if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 3) _exit(1);
  sem_post(&forked);
  pthread_join(thread, NULL);
  _exit(1);
}
