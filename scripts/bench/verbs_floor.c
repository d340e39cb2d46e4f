/*
 * The least that posting costs: a C loop over the same chain of two-SGE work requests with the same patches (heap cnt and timestamp of
 * every packet's header), one post and one poll a chain, four chains of memory in turn. Prints one JSON row per chain length.
 *
 *   verbs_floor DEVICE PACKETS CHAIN...
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { DEPTH = 4096, CHAINS = 4, LONGEST = 1024, HEADER_BYTES = 104, STRIDE = 128, PAYLOAD_BYTES = 8192, FRAME_BYTES = 42 };

static void die(const char *what) {
  fprintf(stderr, "verbs_floor: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double cpu_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

struct chain {
  struct ibv_send_wr wr[LONGEST];
  struct ibv_sge sge[LONGEST][2];
  unsigned char *headers;
};
static struct chain chains[CHAINS];
static long under_way;

static void take_completions(struct ibv_cq *cq) {
  struct ibv_wc wc[64];
  int n = ibv_poll_cq(cq, 64, wc);
  if (n < 0) die("ibv_poll_cq");
  for (int i = 0; i < n; i++) {
    if (wc[i].status) die(ibv_wc_status_str(wc[i].status));
    under_way -= wc[i].wr_id;
  }
}

static double run(struct ibv_qp *qp, int length, long packets) {
  uint64_t cnt = 1, timestamp = 0;
  double start = cpu_ns();
  for (long n = 0, k = 0; n < packets; n += length, k = (k + 1) % CHAINS) {
    struct chain *c = &chains[k];
    for (int i = 0; i < length; i++) {
      uint64_t *header = (uint64_t *)(c->headers + i * STRIDE + FRAME_BYTES + 6);
      header[1] = htobe64(UINT64_C(0x8001) << 48 | cnt++);
      header[5] = htobe64(UINT64_C(0x9600) << 48 | timestamp);
      timestamp += PAYLOAD_BYTES;
    }
    while (under_way + length > DEPTH) take_completions(qp->send_cq);
    struct ibv_send_wr *bad;
    if (ibv_post_send(qp, c->wr, &bad)) die("ibv_post_send");
    under_way += length;
    take_completions(qp->send_cq);
  }
  while (under_way) take_completions(qp->send_cq);
  return (cpu_ns() - start) / packets;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  int devices;
  struct ibv_device **list = ibv_get_device_list(&devices), *device = NULL;
  for (int i = 0; i < devices; i++)
    if (!strcmp(ibv_get_device_name(list[i]), argv[1])) device = list[i];
  struct ibv_context *context = device ? ibv_open_device(device) : NULL;
  if (!context) die(argv[1]);
  struct ibv_pd *pd = ibv_alloc_pd(context);
  struct ibv_cq *cq = ibv_create_cq(context, DEPTH, NULL, NULL, 0);
  struct ibv_qp_init_attr init = {.send_cq = cq, .recv_cq = cq, .cap = {.max_send_wr = DEPTH, .max_send_sge = 2}, .qp_type = IBV_QPT_RAW_PACKET};
  struct ibv_qp *qp = ibv_create_qp(pd, &init);
  if (!qp) die("ibv_create_qp");
  struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1};
  if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PORT)) die("INIT");
  for (int state = IBV_QPS_RTR; state <= IBV_QPS_RTS; state++) {
    attr.qp_state = state;
    if (ibv_modify_qp(qp, &attr, IBV_QP_STATE)) die("RTR, RTS");
  }
  long packets = atol(argv[2]);
  size_t bytes = (size_t)CHAINS * LONGEST * (STRIDE + PAYLOAD_BYTES);
  unsigned char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  struct ibv_mr *mr = ibv_reg_mr(pd, memory, bytes, IBV_ACCESS_LOCAL_WRITE);
  if (!mr) die("ibv_reg_mr");
  for (int a = 3; a < argc; a++) {
    int length = atoi(argv[a]);
    if (length < 1 || length > LONGEST) return 2;
    for (int k = 0; k < CHAINS; k++) {
      struct chain *c = &chains[k];
      c->headers = memory + (size_t)k * LONGEST * STRIDE;
      unsigned char *payload = memory + (size_t)CHAINS * LONGEST * STRIDE + (size_t)k * LONGEST * PAYLOAD_BYTES;
      for (int i = 0; i < length; i++) {
        c->sge[i][0] = (struct ibv_sge){(uintptr_t)(c->headers + i * STRIDE + 6), HEADER_BYTES - 6, mr->lkey};
        c->sge[i][1] = (struct ibv_sge){(uintptr_t)(payload + (size_t)i * PAYLOAD_BYTES), PAYLOAD_BYTES, mr->lkey};
        c->wr[i] = (struct ibv_send_wr){.wr_id = length, .sg_list = c->sge[i], .num_sge = 2, .opcode = IBV_WR_SEND,
                                        .next = i + 1 < length ? &c->wr[i + 1] : NULL,
                                        .send_flags = IBV_SEND_IP_CSUM | (i + 1 < length ? 0 : IBV_SEND_SIGNALED)};
      }
    }
    run(qp, length, packets / 10);
    printf("{\"program\":\"floor\",\"chain\":%d,\"nanosecondsPerPacket\":%.2f}\n", length, run(qp, length, packets));
    fflush(stdout);
  }
  return 0;
}
