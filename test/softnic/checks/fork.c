/* Fork protection, and ports without GIDs. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096 };

static uint8_t *pages(int n) {
  uint8_t *memory = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  EXPECT(memory != MAP_FAILED);
  return memory;
}

/* Whether a child has the memory: the kernel reads it, so that nobody dies of it. */
static bool inherited(const uint8_t *memory) {
  int ends[2];
  EQUAL(pipe(ends), 0);
  pid_t child = fork();
  if (child == 0) _exit(write(ends[1], memory, 1) == 1 ? 0 : 1);
  int status;
  EXPECT(waitpid(child, &status, 0) == child);
  close(ends[0]);
  close(ends[1]);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

CHECK(registered_memory_and_fork, "after ibv_fork_init a child has not what is registered, where the kernel does not copy it") {
  faults("limit copy_on_fork 0");
  EQUAL(ibv_is_fork_initialized(), IBV_FORK_DISABLED);
  EQUAL(ibv_fork_init(), 0);
  EQUAL(ibv_is_fork_initialized(), IBV_FORK_ENABLED);
  struct rig rig = rig_open((struct options){0});
  uint8_t *memory = pages(2);
  struct ibv_mr *mr = ibv_reg_mr(rig.pd, memory, PAGE, 0);
  EXPECT(mr);
  EXPECT(!inherited(memory));
  EXPECT(inherited(memory + PAGE));
  EQUAL(ibv_dereg_mr(mr), 0);
  rig_close(&rig);
}

CHECK(fork_init_too_late, "ibv_fork_init is EINVAL when memory was registered before") {
  faults("limit copy_on_fork 0");
  struct rig rig = rig_open((struct options){0});
  EQUAL(ibv_fork_init(), EINVAL);
  rig_close(&rig);
}

CHECK(fork_with_copies, "where the kernel copies pinned pages on fork, nothing has to be done and children have them") {
  struct rig rig = rig_open((struct options){0});
  EQUAL(ibv_fork_init(), 0);
  EQUAL(ibv_is_fork_initialized(), IBV_FORK_UNNEEDED);
  uint8_t *memory = pages(1);
  struct ibv_mr *mr = ibv_reg_mr(rig.pd, memory, PAGE, 0);
  EXPECT(mr);
  EXPECT(inherited(memory));
  EQUAL(ibv_dereg_mr(mr), 0);
  rig_close(&rig);
}

CHECK(a_port_without_gids, "a device may tell no GIDs") {
  faults("limit gids 0");
  struct ibv_context *context = open_device(0);
  struct ibv_gid_entry entries[64];
  EQUAL(ibv_query_gid_table(context, entries, 64, 0), 0);
  EQUAL(ibv_close_device(context), 0);
}
