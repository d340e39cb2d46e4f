/*
 * Small programs that break one rule each and look at what happens. `check NAME` runs one; `check` lists them. A check sets its
 * environment (settings are read with the first device list), opens what it needs, and ends with everything destroyed.
 */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(name, rule)                                                                            \
  static void name(void);                                                                            \
  __attribute__((constructor)) static void register_##name(void) { check_register(#name, rule, name); } \
  static void name(void)

/* Both end the program if it is not so. */
#define EXPECT(what) check_expect((what), #what, __FILE__, __LINE__)
#define EQUAL(got, wanted) check_equal((long long)(got), (long long)(wanted), #got, #wanted, __FILE__, __LINE__)

void check_register(const char *name, const char *rule, void (*run)(void));
void check_expect(bool good, const char *what, const char *file, int line);
void check_equal(long long got, long long wanted, const char *what, const char *to, const char *file, int line);

enum { MEMORY_BYTES = 1 << 16, FRAME_BYTES = 64 };

/* A device with one of each, in RTS. */
struct rig {
  struct ibv_context *context;
  struct ibv_pd *pd;
  struct ibv_comp_channel *channel;
  struct ibv_cq *cq;
  struct ibv_qp *qp;
  struct ibv_mr *mr;
  uint8_t *memory;
};

struct options {
  int device;
  int depth; /* 8 */
  int sges;  /* 2 */
  int cqe;   /* 64 */
  int inline_bytes;
  int receives;
  bool sig_all;
  bool fresh; /* leave the queue pair in RESET */
};

void faults(const char *commands);
struct ibv_context *open_device(int index);
struct ibv_qp_init_attr qp_init(const struct rig *rig, const struct options *options);
struct rig rig_open(struct options options);
void rig_close(struct rig *rig);

int to_state(struct ibv_qp *qp, enum ibv_qp_state state);
void to_rts(struct ibv_qp *qp);
enum ibv_qp_state state_of(struct ibv_qp *qp);

/* A chain of n WRs of FRAME_BYTES each, wr_id from `first`, none signalled. */
struct chain {
  struct ibv_send_wr wr[64];
  struct ibv_sge sge[64][4];
};

void chain_make(struct chain *chain, const struct rig *rig, int n, uint64_t first);
/* Returns what ibv_post_send does; `bad` may be NULL. */
int post(const struct rig *rig, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
/* Posts one WR of FRAME_BYTES. */
int post_one(const struct rig *rig, uint64_t wr_id, unsigned flags);
/* Polls until there is one, at most two seconds; false if none came. */
bool completion(struct ibv_cq *cq, struct ibv_wc *wc);
/* Polls until n were there; returns how many. */
int completions(struct ibv_cq *cq, int n, struct ibv_wc *wc);
/* Waits for the next async event, acknowledges it and returns its type; -1 after two seconds. */
int async_event(struct ibv_context *context);
bool readable(int fd, int timeout_ms);
void non_blocking(int fd);

/* A UDP datagram in an Ethernet frame, checksums 0. Returns the frame's length. */
int udp_frame(uint8_t *frame, int version, const char *from, const char *to, uint16_t port, const void *payload, int length);
/* MAC of a device, from its GUID. */
void mac_of(struct ibv_context *context, uint8_t *mac);

/* Writes a command to the control file (made by control_open) and waits until it was applied. */
void control_open(void);
void control(const char *command);

#endif
