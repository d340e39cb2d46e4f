/*
 * Measures the cost of a WR: patches one counter in each header, posts chains of two-SGE WRs (64 bytes of headers, 8192 of payload)
 * with one signalled WR a chain, and polls its completion. Prints ns of CPU per WR for chains of 1, 16, 64 and 256: the best and
 * the median of 9 runs.
 *
 *   cost [WRS]
 */
#define _GNU_SOURCE
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { DEPTH = 1024, CHAIN = 256, HEADER_BYTES = 64, PAYLOAD_BYTES = 8192, RUNS = 9 };

static void die(const char *what) {
  perror(what);
  exit(1);
}

static double cpu_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double run(struct ibv_qp *qp, struct ibv_send_wr *wrs, int chain, long total, char *headers) {
  struct ibv_wc wc;
  struct ibv_send_wr *bad;
  uint64_t counter = 0;
  double start = cpu_ns();
  for (int i = 0; i < chain; i++) {
    wrs[i].next = i + 1 < chain ? &wrs[i + 1] : NULL;
    wrs[i].send_flags = i + 1 < chain ? 0 : IBV_SEND_SIGNALED;
  }
  for (long n = 0; n < total; n += chain) {
    for (int i = 0; i < chain; i++) memcpy(headers + i * HEADER_BYTES + 48, &(uint64_t){counter++}, 8);
    if (ibv_post_send(qp, wrs, &bad)) die("ibv_post_send");
    int got;
    while ((got = ibv_poll_cq(qp->send_cq, 1, &wc)) == 0) continue;
    if (got < 0 || wc.status) die("completion");
  }
  return (cpu_ns() - start) / total;
}

int main(int argc, char **argv) {
  long total = argc > 1 ? atol(argv[1]) : 2000000;
  struct ibv_device **list = ibv_get_device_list(NULL);
  if (!list || !list[0]) die("no device");
  struct ibv_context *context = ibv_open_device(list[0]);
  struct ibv_pd *pd = ibv_alloc_pd(context);
  struct ibv_cq *cq = ibv_create_cq(context, DEPTH, NULL, NULL, 0);
  size_t bytes = CHAIN * (HEADER_BYTES + PAYLOAD_BYTES);
  char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  struct ibv_mr *mr = ibv_reg_mr(pd, memory, bytes, IBV_ACCESS_LOCAL_WRITE);
  struct ibv_qp_init_attr init = {
      .send_cq = cq, .recv_cq = cq, .cap = {DEPTH, 0, 2, 0, 0}, .qp_type = IBV_QPT_RAW_PACKET};
  struct ibv_qp *qp = ibv_create_qp(pd, &init);
  if (!mr || !qp) die("set-up");
  struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1};
  if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PORT)) die("INIT");
  for (int state = IBV_QPS_RTR; state <= IBV_QPS_RTS; state++) {
    attr.qp_state = state;
    if (ibv_modify_qp(qp, &attr, IBV_QP_STATE)) die("RTR or RTS");
  }
  static struct ibv_send_wr wrs[CHAIN];
  static struct ibv_sge sges[CHAIN][2];
  for (int i = 0; i < CHAIN; i++) {
    sges[i][0] = (struct ibv_sge){(uintptr_t)memory + i * HEADER_BYTES, HEADER_BYTES, mr->lkey};
    sges[i][1] =
        (struct ibv_sge){(uintptr_t)memory + CHAIN * HEADER_BYTES + (size_t)i * PAYLOAD_BYTES, PAYLOAD_BYTES, mr->lkey};
    wrs[i] = (struct ibv_send_wr){.wr_id = i, .sg_list = sges[i], .num_sge = 2, .opcode = IBV_WR_SEND};
  }
  for (int chain = 1; chain <= CHAIN; chain = chain == 1 ? 16 : chain * 4) {
    double ns[RUNS];
    for (int r = 0; r < RUNS; r++) ns[r] = run(qp, wrs, chain, total / chain * chain, memory);
    qsort(ns, RUNS, sizeof *ns, compare);
    printf("chain %3d: %.1f / %.1f ns of CPU per WR (best / median of %d)\n", chain, ns[0], ns[RUNS / 2], RUNS);
  }
  return ibv_destroy_qp(qp) || ibv_dereg_mr(mr) || ibv_destroy_cq(cq) || ibv_dealloc_pd(pd) || ibv_close_device(context);
}
