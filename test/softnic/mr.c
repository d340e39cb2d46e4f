/*
 * Protection domains and memory regions. The rules kept here:
 * - an SGE is good only if every byte lies in a region of its lkey and of the queue pair's domain (checked in softnic.h, in a
 *   table by lkey, since it happens for every SGE);
 * - registering pins pages: unmapped memory is EFAULT, more than RLIMIT_MEMLOCK without CAP_IPC_LOCK is ENOMEM;
 * - remote write needs local write; access flags of the optional range are ignored where not supported, others are EINVAL;
 * - a domain with regions or queue pairs in it cannot be freed (EBUSY).
 */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "softnic.h"

struct mr_entry mr_table[MR_SLOTS];

static struct {
  pthread_mutex_t mutex;
  uint32_t next;
  uint32_t handle;
  uint64_t pinned;
  uint8_t generation[MR_SLOTS];
} regions = {.mutex = PTHREAD_MUTEX_INITIALIZER, .next = 1};

struct ibv_pd *ibv_alloc_pd(struct ibv_context *context) {
  static uint32_t handle;
  if (dead(context)) {
    errno = EIO;
    return NULL;
  }
  struct pd *pd = calloc(1, sizeof *pd);
  if (!pd) return NULL;
  pd->base.context = context;
  pd->base.handle = add(&handle, 1);
  report_made(PDS);
  return &pd->base;
}

int ibv_dealloc_pd(struct ibv_pd *base) {
  struct pd *pd = (struct pd *)base;
  if (load(&pd->uses)) return EBUSY;
  if (!pd->gone) report_gone(PDS);
  pd->gone = true;
  return released(base->context, pd);
}

static uint64_t lockable(void) {
  if (nic.limits.memlock_bytes != UINT64_MAX) return nic.limits.memlock_bytes;
  struct rlimit limit;
  if (capable(CAP_IPC_LOCK) || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
  return limit.rlim_cur;
}

/* Pages that a region of [address, address + length) pins, in bytes. */
static uint64_t pages(const void *address, size_t length) {
  uint64_t page = sysconf(_SC_PAGESIZE);
  uint64_t first = (uintptr_t)address & ~(page - 1);
  return (((uintptr_t)address + length + page - 1) & ~(page - 1)) - first;
}

static bool mapped(const void *address, size_t length) {
  uint64_t page = sysconf(_SC_PAGESIZE);
  uint64_t at = (uintptr_t)address & ~(page - 1);
  uint64_t left = pages(address, length);
  unsigned char in_core[4096];
  while (left) {
    uint64_t n = left < page * sizeof in_core ? left : page * sizeof in_core;
    if (mincore((void *)(uintptr_t)at, n, in_core) < 0) return false;
    at += n;
    left -= n;
  }
  return true;
}

static const unsigned KNOWN_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
                                     IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND | IBV_ACCESS_HUGETLB | IBV_ACCESS_OPTIONAL_RANGE;

static int refusal(const struct ibv_pd *pd, const void *address, size_t length, unsigned access) {
  if (dead(pd->context)) return EIO;
  if (access & IBV_ACCESS_ON_DEMAND) return EOPNOTSUPP;
  if (access & ~KNOWN_ACCESS) return EINVAL;
  if (access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC) && !(access & IBV_ACCESS_LOCAL_WRITE)) return EINVAL;
  if (length == 0 || (uintptr_t)address + length < (uintptr_t)address) return EINVAL;
  int fault = trap_reg_mr();
  if (fault) return fault;
  return mapped(address, length) ? fork_protect(address, length) : EFAULT;
}

/* With the mutex held: a slot, or 0. */
static uint32_t free_slot(void) {
  for (uint32_t tries = 1; tries < MR_SLOTS; tries++) {
    uint32_t slot = regions.next++ & (MR_SLOTS - 1);
    if (slot && !mr_table[slot].key) return slot;
  }
  return 0;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *address, size_t length, uint64_t iova, unsigned int access) {
  /* As long as the kernel takes to pin pages. */
  if (nic.limits.pin_us_per_mib) usleep((length >> 20) * nic.limits.pin_us_per_mib);
  int error = refusal(pd, address, length, access);
  struct ibv_mr *mr = error ? NULL : calloc(1, sizeof *mr);
  if (!mr) {
    errno = error ? error : ENOMEM;
    return NULL;
  }
  pthread_mutex_lock(&regions.mutex);
  uint64_t bytes = pages(address, length);
  uint64_t most = lockable();
  uint32_t slot = regions.pinned > most || bytes > most - regions.pinned ? 0 : free_slot();
  if (slot) {
    struct mr_entry *entry = &mr_table[slot];
    regions.pinned += bytes;
    /* A key never comes back at once: an old one is stale, not somebody else's. */
    uint32_t key = slot << 8 | ++regions.generation[slot];
    entry->start = iova;
    entry->length = length;
    entry->access = access;
    entry->pd = pd;
    entry->delta = (uintptr_t)address - iova;
    *mr = (struct ibv_mr){pd->context, pd, address, length, regions.handle++, key, key};
    store(&entry->key, key);
  }
  pthread_mutex_unlock(&regions.mutex);
  if (!slot) {
    free(mr);
    errno = ENOMEM;
    return NULL;
  }
  add(&((struct pd *)pd)->uses, 1);
  if (access & IBV_ACCESS_RELAXED_ORDERING) report_relaxed();
  report_made(MRS);
  return mr;
}

#undef ibv_reg_mr
struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *address, size_t length, int access) {
  return ibv_reg_mr_iova2(pd, address, length, (uintptr_t)address, access);
}

#undef ibv_reg_mr_iova
struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *address, size_t length, uint64_t iova, int access) {
  return ibv_reg_mr_iova2(pd, address, length, iova, access);
}

int ibv_dereg_mr(struct ibv_mr *mr) {
  struct mr_entry *entry = &mr_table[mr->lkey >> 8];
  pthread_mutex_lock(&regions.mutex);
  bool known = entry->key == mr->lkey;
  if (known) {
    store(&entry->key, 0);
    regions.pinned -= pages(mr->addr, mr->length);
  }
  pthread_mutex_unlock(&regions.mutex);
  if (known) {
    add(&((struct pd *)mr->pd)->uses, -1);
    report_gone(MRS);
  }
  return known || dead(mr->context) ? released(mr->context, mr) : EINVAL;
}
