/*
 * The thread for everything that happens without a call of the program: commands from the control file, and WRs that were stalled,
 * paced or rate-limited. It starts when there is any of these, and lives until the process ends. As a NIC does, it reads a WR's
 * memory when it executes the WR, not when the WR was posted.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "softnic.h"

static int wake = -1;
static int control = -1;

static uint64_t progress(void) {
  uint64_t due = UINT64_MAX;
  pthread_mutex_lock(&nic.mutex);
  for (struct qp *qp = nic.qps; qp; qp = qp->next) {
    take(&qp->sq.lock);
    uint64_t when = send_progress(qp, now_ns());
    drop(&qp->sq.lock);
    if (when < due) due = when;
  }
  pthread_mutex_unlock(&nic.mutex);
  return due;
}

static void sleep_until(uint64_t due) {
  struct pollfd fds[2] = {{.fd = wake, .events = POLLIN}, {.fd = control, .events = POLLIN}};
  struct timespec wait = {0};
  uint64_t now = now_ns();
  if (due != UINT64_MAX && due > now) wait = (struct timespec){(due - now) / 1000000000, (due - now) % 1000000000};
  if (ppoll(fds, 2, due == UINT64_MAX ? NULL : &wait, NULL) <= 0) return;
  uint64_t count;
  char changes[4096];
  if (fds[0].revents && read(wake, &count, sizeof count) < 0) return;
  if (fds[1].revents && read(control, changes, sizeof changes) > 0) fault_read_control();
}

static void *run(void *argument) {
  fault_read_control(); /* lines that were added before the file was watched */
  for (;;) sleep_until(progress());
  return argument;
}

static void watch_control(void) {
  const char *name = fault_control();
  if (!name) return;
  FILE *f = fopen(name, "ae");
  if (f) fclose(f);
  control = inotify_init1(IN_CLOEXEC);
  if (control < 0 || inotify_add_watch(control, name, IN_MODIFY) < 0) {
    fprintf(stderr, "softnic: cannot watch SOFTNIC_CONTROL %s: %s\n", name, strerror(errno));
    abort();
  }
}

static void start(void) {
  pthread_t thread;
  sigset_t all, old;
  watch_control();
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) abort();
  store(&wake, fd);
  sigfillset(&all);
  /* Signals are the program's, so none may come to a thread that the program does not know. */
  pthread_sigmask(SIG_SETMASK, &all, &old);
  if (pthread_create(&thread, NULL, run, NULL)) abort();
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_detach(thread);
}

void engine_start(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, start);
}

void engine_wake(void) {
  uint64_t one = 1;
  int fd = load(&wake);
  /* Without an engine nobody has to be woken: a stall that the environment set lasts until the process ends. */
  if (fd >= 0 && write(fd, &one, sizeof one) < 0 && errno != EAGAIN) abort();
}
