/*
 * Runs a command with endless loops beside it: neighbours at ordinary priority, one process each, that want all of a CPU. They begin
 * before it, end with it, and are waited for, so that their CPU time counts as that of the process that waits for this program. A loop whose
 * parent dies is killed by the kernel: none is left behind if the benchmark is killed.
 *
 * The loops are of the command's session, so that a kernel that shares CPUs out by sessions (autogroups, sched(7)) has all of
 * them in one group, as the threads of one container or one service are.
 *
 *   beside LOOPS COMMAND [ARGUMENTS]
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_LOOPS = 1024 };

static pid_t start(char **command) {
  pid_t parent = getpid(), child = fork();
  if (child < 0) perror("beside: fork");
  if (child) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1); /* it had ended before prctl(2) asked for the signal */
  if (!command)
    for (volatile unsigned long turns = 0;; turns++);
  execvp(*command, command);
  perror(*command);
  _exit(127);
}

int main(int argc, char **argv) {
  int loops = argc < 3 ? -1 : atoi(argv[1]), status = 0;
  if (loops < 0 || loops > MOST_LOOPS) return 2;
  static pid_t loop[MOST_LOOPS];
  for (int i = 0; i < loops; i++) loop[i] = start(NULL);
  pid_t command = start(argv + 2);
  if (command < 0 || waitpid(command, &status, 0) < 0) status = 1 << 8;
  for (int i = 0; i < loops; i++)
    if (loop[i] > 0) kill(loop[i], SIGKILL);
  while (wait(NULL) > 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
