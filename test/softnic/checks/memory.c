/* Memory regions, and SGEs that leave them. */
#define _GNU_SOURCE
#include "check.h"

#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Posts 0 and 1 good, 2 with this SGE, 3 and 4 good, none signalled: 2 must fail, 3 and 4 be flushed, 0 and 1 be silent. */
static void bad_sge(struct rig *r, struct ibv_sge sge) {
  struct ibv_wc wc[8];
  struct chain c;
  chain_make(&c, r, 5, 0);
  c.sge[2][1] = sge;
  c.wr[2].num_sge = 2;
  EQUAL(post(r, c.wr, NULL), 0);
  EQUAL(completions(r->cq, 3, wc), 3);
  EQUAL(wc[0].wr_id, 2);
  EQUAL(wc[0].status, IBV_WC_LOC_PROT_ERR);
  EQUAL(wc[0].qp_num, r->qp->qp_num);
  EXPECT(wc[0].vendor_err != 0);
  for (int i = 1; i < 3; i++) {
    EQUAL(wc[i].wr_id, i + 2);
    EQUAL(wc[i].status, IBV_WC_WR_FLUSH_ERR);
  }
  EQUAL(ibv_poll_cq(r->cq, 8, wc), 0);
  EQUAL(state_of(r->qp), IBV_QPS_ERR);
  EQUAL(to_state(r->qp, IBV_QPS_RESET), 0);
  to_rts(r->qp);
}

/* Posts the SGE alone and expects success. */
static void good_sge(struct rig *r, struct ibv_sge sge) {
  struct ibv_wc wc;
  struct chain c;
  chain_make(&c, r, 1, 77);
  c.sge[0][1] = sge;
  c.wr[0].num_sge = 2;
  c.wr[0].send_flags = IBV_SEND_SIGNALED;
  EQUAL(post(r, c.wr, NULL), 0);
  EXPECT(completion(r->cq, &wc));
  EQUAL(wc.status, IBV_WC_SUCCESS);
}

CHECK(sges_that_leave_their_region,
      "one byte outside, at either end, is LOC_PROT_ERR, ERR and a flush of what is behind; inside is not") {
  struct rig r = rig_open((struct options){0});
  uintptr_t start = (uintptr_t)r.memory + 4096;
  struct ibv_mr *mr = ibv_reg_mr(r.pd, (void *)start, 100, 0);
  EXPECT(mr);
  good_sge(&r, (struct ibv_sge){start, 100, mr->lkey});
  good_sge(&r, (struct ibv_sge){start + 99, 1, mr->lkey});
  bad_sge(&r, (struct ibv_sge){start, 101, mr->lkey});
  bad_sge(&r, (struct ibv_sge){start - 1, 100, mr->lkey});
  bad_sge(&r, (struct ibv_sge){start + 100, 1, mr->lkey});
  bad_sge(&r, (struct ibv_sge){start + 50, UINT32_MAX, mr->lkey});
  bad_sge(&r, (struct ibv_sge){UINT64_MAX - 10, 20, mr->lkey});
  good_sge(&r, (struct ibv_sge){start, 100, mr->lkey});
  EQUAL(ibv_dereg_mr(mr), 0);
  rig_close(&r);
}

CHECK(empty_sges, "an SGE of no bytes is skipped, whatever its key and address, as on mlx5") {
  struct rig r = rig_open((struct options){0});
  good_sge(&r, (struct ibv_sge){1, 0, 0});
  rig_close(&r);
}

CHECK(keys_that_are_not_the_regions, "an lkey that is unknown, of another region, or of a region that is gone is LOC_PROT_ERR") {
  struct rig r = rig_open((struct options){0});
  uintptr_t a = (uintptr_t)r.memory, b = a + 8192;
  struct ibv_mr *one = ibv_reg_mr(r.pd, (void *)a, 4096, 0), *two = ibv_reg_mr(r.pd, (void *)b, 4096, 0);
  EXPECT(one && two && one->lkey != two->lkey);
  bad_sge(&r, (struct ibv_sge){a, 64, 0});
  bad_sge(&r, (struct ibv_sge){a, 64, two->lkey});
  bad_sge(&r, (struct ibv_sge){a, 64, one->lkey ^ 1});
  uint32_t gone = one->lkey;
  good_sge(&r, (struct ibv_sge){a, 64, gone});
  EQUAL(ibv_dereg_mr(one), 0);
  bad_sge(&r, (struct ibv_sge){a, 64, gone});
  EQUAL(ibv_dereg_mr(two), 0);
  rig_close(&r);
}

CHECK(regions_of_another_domain, "an lkey of another protection domain is LOC_PROT_ERR") {
  struct rig r = rig_open((struct options){0});
  struct ibv_pd *other = ibv_alloc_pd(r.context);
  struct ibv_mr *mr = ibv_reg_mr(other, r.memory, 4096, 0);
  EXPECT(mr);
  bad_sge(&r, (struct ibv_sge){(uintptr_t)r.memory, 64, mr->lkey});
  EQUAL(ibv_dereg_mr(mr), 0);
  EQUAL(ibv_dealloc_pd(other), 0);
  rig_close(&r);
}

CHECK(addresses_by_iova, "a region registered with an iova is addressed by it") {
  setenv("SOFTNIC_MODE", "copy", 1);
  struct rig r = rig_open((struct options){0});
  struct ibv_mr *mr = ibv_reg_mr_iova2(r.pd, r.memory, 4096, 0x10000, 0);
  EXPECT(mr);
  good_sge(&r, (struct ibv_sge){0x10000 + 3072, 1024, mr->lkey});
  bad_sge(&r, (struct ibv_sge){(uintptr_t)r.memory, 64, mr->lkey});
  EQUAL(ibv_dereg_mr(mr), 0);
  rig_close(&r);
}

CHECK(a_region_dropped_before_its_wr_is_executed, "memory is checked and read when a WR is executed, not when it is posted") {
  control_open();
  faults("stall");
  struct rig r = rig_open((struct options){0});
  struct ibv_mr *mr = ibv_reg_mr(r.pd, r.memory, 4096, 0);
  struct chain c;
  struct ibv_wc wc;
  chain_make(&c, &r, 1, 9);
  c.sge[0][0].lkey = mr->lkey;
  EQUAL(post(&r, c.wr, NULL), 0);
  EQUAL(ibv_dereg_mr(mr), 0);
  control("resume");
  EXPECT(completion(r.cq, &wc));
  EQUAL(wc.wr_id, 9);
  EQUAL(wc.status, IBV_WC_LOC_PROT_ERR);
  rig_close(&r);
}

CHECK(registrations_that_are_refused,
      "no length, unmapped pages and remote write without local write are refused; optional flags are ignored") {
  struct rig r = rig_open((struct options){0});
  void *hole = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap((char *)hole + 4096, 4096);
  errno = 0;
  EXPECT(!ibv_reg_mr(r.pd, r.memory, 0, 0));
  EQUAL(errno, EINVAL);
  EXPECT(!ibv_reg_mr(r.pd, hole, 3 * 4096, 0));
  EQUAL(errno, EFAULT);
  EXPECT(!ibv_reg_mr(r.pd, r.memory, 64, IBV_ACCESS_REMOTE_WRITE));
  EQUAL(errno, EINVAL);
  EXPECT(!ibv_reg_mr(r.pd, r.memory, 64, 1 << 15));
  EQUAL(errno, EINVAL);
  EXPECT(!ibv_reg_mr(r.pd, r.memory, 64, IBV_ACCESS_ON_DEMAND));
  EQUAL(errno, EOPNOTSUPP);
  struct ibv_mr *mr = ibv_reg_mr(r.pd, r.memory, 64, IBV_ACCESS_RELAXED_ORDERING);
  EXPECT(mr);
  EQUAL(ibv_dereg_mr(mr), 0);
  munmap(hole, 4096);
  munmap((char *)hole + 8192, 4096);
  rig_close(&r);
}

CHECK(a_limit_on_locked_memory, "registering more than may be locked is ENOMEM, and deregistering gives it back") {
  faults("limit memlock_bytes 131072");
  struct rig r = rig_open((struct options){0}); /* 65536 of them */
  struct ibv_mr *mr = ibv_reg_mr(r.pd, r.memory, 65536, 0);
  EXPECT(mr);
  errno = 0;
  EXPECT(!ibv_reg_mr(r.pd, r.memory, 1, 0));
  EQUAL(errno, ENOMEM);
  EQUAL(ibv_dereg_mr(mr), 0);
  mr = ibv_reg_mr(r.pd, r.memory, 1, 0);
  EXPECT(mr);
  EQUAL(ibv_dereg_mr(mr), 0);
  rig_close(&r);
}

static void drop_capability(int capability) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  EQUAL(syscall(SYS_capget, &header, data), 0);
  data[capability / 32].effective &= ~(1u << capability % 32);
  EQUAL(syscall(SYS_capset, &header, data), 0);
}

CHECK(rlimit_memlock_without_cap_ipc_lock, "the process's own RLIMIT_MEMLOCK counts, unless it has CAP_IPC_LOCK") {
  struct rig r = rig_open((struct options){0});
  struct rlimit limit = {65536 + 4096, 65536 + 4096};
  EQUAL(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
  struct ibv_mr *mr = ibv_reg_mr(r.pd, r.memory, 8192, 0);
  EXPECT(mr);
  EQUAL(ibv_dereg_mr(mr), 0);
  drop_capability(CAP_IPC_LOCK);
  errno = 0;
  EXPECT(!ibv_reg_mr(r.pd, r.memory, 8192, 0));
  EQUAL(errno, ENOMEM);
  mr = ibv_reg_mr(r.pd, r.memory, 4096, 0);
  EXPECT(mr);
  EQUAL(ibv_dereg_mr(mr), 0);
  rig_close(&r);
}

CHECK(raw_packets_need_cap_net_raw, "creating a raw packet queue pair without CAP_NET_RAW is EPERM") {
  struct rig r = rig_open((struct options){0});
  const struct options o = {0};
  struct ibv_qp_init_attr init = qp_init(&r, &o);
  drop_capability(CAP_NET_RAW);
  errno = 0;
  EXPECT(!ibv_create_qp(r.pd, &init));
  EQUAL(errno, EPERM);
  rig_close(&r);
}
