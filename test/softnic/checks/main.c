/* Shared by the checks. */
#define _GNU_SOURCE
#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static struct {
  const char *name, *rule;
  void (*run)(void);
} registered[128];
static int count;
static int expectations;

void check_register(const char *name, const char *rule, void (*run)(void)) {
  registered[count].name = name;
  registered[count].rule = rule;
  registered[count++].run = run;
}

void check_expect(bool good, const char *what, const char *file, int line) {
  expectations++;
  if (good) return;
  fprintf(stderr, "%s:%d: not so: %s (errno %d, %s)\n", file, line, what, errno, strerror(errno));
  exit(1);
}

void check_equal(long long got, long long wanted, const char *what, const char *to, const char *file, int line) {
  expectations++;
  if (got == wanted) return;
  fprintf(stderr, "%s:%d: %s is %lld, not %s (%lld)\n", file, line, what, got, to, wanted);
  exit(1);
}

int main(int argc, char **argv) {
  for (int i = 0; i < count; i++) {
    if (argc < 2) printf("%s: %s\n", registered[i].name, registered[i].rule);
    else if (!strcmp(argv[1], registered[i].name)) {
      registered[i].run();
      printf("ok: %d expectations\n", expectations);
      return expectations ? 0 : 1;
    }
  }
  return argc < 2 ? 0 : 2;
}

void faults(const char *commands) {
  setenv("SOFTNIC_FAULTS", commands, 1);
}

struct ibv_context *open_device(int index) {
  int n = 0;
  struct ibv_device **list = ibv_get_device_list(&n);
  EXPECT(list && n > index);
  struct ibv_context *context = ibv_open_device(list[index]);
  EXPECT(context);
  ibv_free_device_list(list);
  return context;
}

struct ibv_qp_init_attr qp_init(const struct rig *rig, const struct options *o) {
  return (struct ibv_qp_init_attr){
      .send_cq = rig->cq,
      .recv_cq = rig->cq,
      .cap =
          {
              .max_send_wr = o->depth ? o->depth : 8,
              .max_recv_wr = o->receives,
              .max_send_sge = o->sges ? o->sges : 2,
              .max_recv_sge = 1,
              .max_inline_data = o->inline_bytes,
          },
      .qp_type = IBV_QPT_RAW_PACKET,
      .sq_sig_all = o->sig_all,
  };
}

struct rig rig_open(struct options o) {
  struct rig r = {.context = open_device(o.device)};
  r.pd = ibv_alloc_pd(r.context);
  r.channel = ibv_create_comp_channel(r.context);
  r.memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(r.pd && r.channel && r.memory != MAP_FAILED);
  non_blocking(r.context->async_fd);
  r.cq = ibv_create_cq(r.context, o.cqe ? o.cqe : 64, &r, r.channel, 0);
  r.mr = ibv_reg_mr(r.pd, r.memory, MEMORY_BYTES, IBV_ACCESS_LOCAL_WRITE);
  EXPECT(r.cq && r.mr);
  struct ibv_qp_init_attr init = qp_init(&r, &o);
  r.qp = ibv_create_qp(r.pd, &init);
  EXPECT(r.qp);
  if (!o.fresh) to_rts(r.qp);
  return r;
}

void rig_close(struct rig *r) {
  EQUAL(ibv_destroy_qp(r->qp), 0);
  EQUAL(ibv_dereg_mr(r->mr), 0);
  EQUAL(ibv_destroy_cq(r->cq), 0);
  EQUAL(ibv_destroy_comp_channel(r->channel), 0);
  EQUAL(ibv_dealloc_pd(r->pd), 0);
  EQUAL(ibv_close_device(r->context), 0);
  munmap(r->memory, MEMORY_BYTES);
}

int to_state(struct ibv_qp *qp, enum ibv_qp_state state) {
  struct ibv_qp_attr attr = {.qp_state = state, .port_num = 1};
  return ibv_modify_qp(qp, &attr, IBV_QP_STATE | (state == IBV_QPS_INIT ? IBV_QP_PORT : 0));
}

void to_rts(struct ibv_qp *qp) {
  EQUAL(to_state(qp, IBV_QPS_INIT), 0);
  EQUAL(to_state(qp, IBV_QPS_RTR), 0);
  EQUAL(to_state(qp, IBV_QPS_RTS), 0);
}

enum ibv_qp_state state_of(struct ibv_qp *qp) {
  struct ibv_qp_attr attr;
  struct ibv_qp_init_attr init;
  EQUAL(ibv_query_qp(qp, &attr, IBV_QP_STATE, &init), 0);
  return attr.qp_state;
}

void chain_make(struct chain *c, const struct rig *r, int n, uint64_t first) {
  memset(c, 0, sizeof *c);
  for (int i = 0; i < n; i++) {
    c->sge[i][0] = (struct ibv_sge){(uintptr_t)r->memory, FRAME_BYTES, r->mr->lkey};
    c->wr[i] = (struct ibv_send_wr){.wr_id = first + i,
                                    .next = i + 1 < n ? &c->wr[i + 1] : NULL,
                                    .sg_list = c->sge[i],
                                    .num_sge = 1,
                                    .opcode = IBV_WR_SEND};
  }
}

int post(const struct rig *r, struct ibv_send_wr *wr, struct ibv_send_wr **bad) {
  struct ibv_send_wr *mine;
  return ibv_post_send(r->qp, wr, bad ? bad : &mine);
}

int post_one(const struct rig *r, uint64_t wr_id, unsigned flags) {
  struct chain c;
  chain_make(&c, r, 1, wr_id);
  c.wr[0].send_flags = flags;
  return post(r, c.wr, NULL);
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

int completions(struct ibv_cq *cq, int n, struct ibv_wc *wc) {
  double deadline = seconds() + 2;
  int got = 0;
  while (got < n && seconds() < deadline) {
    int more = ibv_poll_cq(cq, n - got, wc + got);
    if (more < 0) EQUAL(more, 0);
    got += more;
  }
  return got;
}

bool completion(struct ibv_cq *cq, struct ibv_wc *wc) {
  return completions(cq, 1, wc) == 1;
}

bool readable(int fd, int timeout_ms) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  return poll(&p, 1, timeout_ms) == 1;
}

void non_blocking(int fd) {
  EQUAL(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

int async_event(struct ibv_context *context) {
  struct ibv_async_event event;
  if (!readable(context->async_fd, 2000) || ibv_get_async_event(context, &event)) return -1;
  ibv_ack_async_event(&event);
  return event.event_type;
}

void mac_of(struct ibv_context *context, uint8_t *mac) {
  __be64 guid = ibv_get_device_guid(context->device);
  uint8_t eui[8];
  memcpy(eui, &guid, 8);
  const uint8_t is[6] = {eui[0] ^ 2, eui[1], eui[2], eui[5], eui[6], eui[7]};
  memcpy(mac, is, 6);
}

int udp_frame(uint8_t *f, int version, const char *from, const char *to, uint16_t port, const void *payload, int length) {
  int ip = version == 4 ? 20 : 40;
  uint8_t *l3 = f + 14, *udp = l3 + ip;
  memset(f, 0, 14 + ip + 8);
  f[12] = version == 4 ? 0x08 : 0x86;
  f[13] = version == 4 ? 0x00 : 0xdd;
  uint16_t udp_length = htons(8 + length), total = htons(ip + 8 + length), ports = htons(port);
  if (version == 4) {
    l3[0] = 0x45;
    memcpy(l3 + 2, &total, 2);
    l3[8] = 64;
    l3[9] = 17;
    EQUAL(inet_pton(AF_INET, from, l3 + 12), 1);
    EQUAL(inet_pton(AF_INET, to, l3 + 16), 1);
  } else {
    l3[0] = 0x60;
    memcpy(l3 + 4, &udp_length, 2);
    l3[6] = 17;
    l3[7] = 64;
    EQUAL(inet_pton(AF_INET6, from, l3 + 8), 1);
    EQUAL(inet_pton(AF_INET6, to, l3 + 24), 1);
  }
  memcpy(udp, &ports, 2);
  memcpy(udp + 2, &ports, 2);
  memcpy(udp + 4, &udp_length, 2);
  memcpy(udp + 8, payload, length);
  return 14 + ip + 8 + length;
}

static char control_name[64];
static int control_lines;

void control_open(void) {
  snprintf(control_name, sizeof control_name, "/tmp/softnic-check-%d", getpid());
  FILE *f = fopen(control_name, "w");
  EXPECT(f);
  fclose(f);
  setenv("SOFTNIC_CONTROL", control_name, 1);
}

static void control_remove(void) {
  char ack[80];
  snprintf(ack, sizeof ack, "%s.ack", control_name);
  unlink(control_name);
  unlink(ack);
}

void control(const char *command) {
  char ack[80];
  if (!control_lines) atexit(control_remove);
  FILE *f = fopen(control_name, "a");
  EXPECT(f);
  fprintf(f, "%s\n", command);
  fclose(f);
  control_lines++;
  snprintf(ack, sizeof ack, "%s.ack", control_name);
  double deadline = seconds() + 5;
  for (int lines = 0; lines < control_lines;) {
    if (seconds() > deadline) EXPECT(!"the control file was not read");
    usleep(1000);
    f = fopen(ack, "r");
    if (!f) continue;
    char text[256] = "";
    if (fgets(text, sizeof text, f)) lines = atoi(text);
    fclose(f);
    if (strstr(text, "not a command")) EXPECT(!"it is a command");
  }
}
