/*
 * Fork protection, as rdma-core has it. The rules kept here:
 * - where the kernel copies pinned pages on fork (`limit copy_on_fork 1`, the default) nothing has to be done;
 * - elsewhere ibv_fork_init, or IBV_FORK_SAFE or RDMAV_FORK_SAFE in the environment when devices are first listed, makes every registration
 *   keep its pages from children; it is EINVAL when memory was registered before;
 * - pages count as small ones unless RDMAV_HUGEPAGES_SAFE was in the environment at that time, and the kernel refuses a part of a huge page:
 *   then the registration is EINVAL.
 * A registration that ends does not give its pages back to children.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "softnic.h"

static bool protecting, huge_pages, too_late;

int ibv_fork_init(void) {
  nic_init();
  report_fork_init();
  if (protecting || nic.limits.copy_on_fork) return 0;
  if (too_late) return EINVAL;
  huge_pages = getenv("RDMAV_HUGEPAGES_SAFE") != NULL;
  protecting = true;
  return 0;
}

void fork_environment(void) {
  if (getenv("IBV_FORK_SAFE") || getenv("RDMAV_FORK_SAFE")) ibv_fork_init();
}

enum ibv_fork_status ibv_is_fork_initialized(void) {
  nic_init();
  if (nic.limits.copy_on_fork) return IBV_FORK_UNNEEDED;
  return protecting ? IBV_FORK_ENABLED : IBV_FORK_DISABLED;
}

static uint64_t page_size(uint64_t address) {
  if (!huge_pages) return sysconf(_SC_PAGESIZE);
  FILE *f = fopen("/proc/self/smaps", "re");
  uint64_t found = sysconf(_SC_PAGESIZE);
  char line[512];
  for (bool here = false; f && fgets(line, sizeof line, f);) {
    uint64_t start, end, kib;
    if (sscanf(line, "%lx-%lx", &start, &end) == 2) here = start <= address && address < end;
    else if (here && sscanf(line, "KernelPageSize: %lu kB", &kib) == 1) found = kib << 10;
  }
  if (f) fclose(f);
  return found;
}

int fork_protect(const void *address, size_t length) {
  if (!protecting) {
    too_late = true;
    return 0;
  }
  uint64_t page = page_size((uintptr_t)address);
  uint64_t start = (uintptr_t)address & ~(page - 1);
  uint64_t end = ((uintptr_t)address + length + page - 1) & ~(page - 1);
  return madvise((void *)(uintptr_t)start, end - start, MADV_DONTFORK) ? EINVAL : 0;
}

