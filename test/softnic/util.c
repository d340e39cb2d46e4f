/* Locks, clocks and capabilities, which every part needs. */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "softnic.h"

/* Spins a little, then lets the holder run. */
void lock_wait(struct lock *lock) {
  for (unsigned spins = 0;; spins++) {
    if (!load_relaxed(&lock->held) && !__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE)) return;
    if (spins < 200) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else {
      sched_yield();
    }
  }
}

/* As the kernel's capable(): capabilities count in the initial user namespace only, which maps all ids to themselves. */
static bool initial_user_namespace(void) {
  unsigned long first = 1, outside = 1, count = 0;
  FILE *f = fopen("/proc/self/uid_map", "re");
  if (!f) return true;
  bool read = fscanf(f, "%lu %lu %lu", &first, &outside, &count) == 3;
  fclose(f);
  return read && first == 0 && outside == 0 && count == 4294967295;
}

bool capable(int capability) {
  if (!initial_user_namespace()) return false;
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  return syscall(SYS_capget, &header, data) == 0 && (data[capability / 32].effective >> capability % 32 & 1);
}

/*
 * A destroy call on a dead device fails, so the user still holds the object and may call again: it is never freed, but it stays
 * reachable, so that a leak checker speaks of the user's leaks only.
 */
void bury(void *object) {
  struct grave {
    void *object;
    struct grave *next;
  };
  static struct grave *graves;
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  struct grave *grave = malloc(sizeof *grave);
  if (!grave) abort();
  pthread_mutex_lock(&mutex);
  grave->object = object;
  grave->next = graves;
  graves = grave;
  pthread_mutex_unlock(&mutex);
}

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

/* Counts CPU ticks where they can be read, because the clock of the vDSO costs as much as a modelled WR. */
static double ticks_per_ns;

static inline uint64_t ticks(void) {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  uint64_t t;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
  return t;
#else
  return now_ns();
#endif
}

void busy_wait_calibrate(void) {
  uint64_t start_ns = now_ns();
  uint64_t start = ticks();
  while (now_ns() - start_ns < 2000000) continue;
  ticks_per_ns = (double)(ticks() - start) / (double)(now_ns() - start_ns);
}

void busy_wait(uint64_t ns) {
  uint64_t start = ticks();
  uint64_t n = (uint64_t)((double)ns * ticks_per_ns);
  while (ticks() - start < n) continue;
}
