/*
 * Shared by the parts of the software NIC: its objects, and the functions that each part offers the others.
 *
 * Locks, in the order in which they may be taken: nic.mutex (lists of objects), a context's flow_mutex, a send queue's lock, that
 * of the listeners (ud.c), a receive queue's lock, a CQ's lock, an event queue's mutex.
 */
#ifndef SOFTNIC_H
#define SOFTNIC_H

#include <errno.h>
#include <infiniband/verbs.h>
#include <net/if.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define outer(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

enum {
  /* The longest frame that can be gathered; the netdev may take less. */
  MAX_FRAME_BYTES = 65536,
  MIN_FRAME_BYTES = 60,
  ETHERNET_BYTES = 14,
  MR_SLOTS = 1 << 16,
  GIDS = 64,
  PORT = 1,
};

/* ---- util.c; locks are held for nanoseconds, so they spin, and they give the CPU to a holder that was preempted */

struct lock {
  int held;
};

void lock_wait(struct lock *lock);
uint64_t now_ns(void);
void busy_wait_calibrate(void);
void busy_wait(uint64_t ns);
bool capable(int capability);
/* Keeps an object that can no longer be freed reachable. */
void bury(void *object);

static inline void take(struct lock *lock) {
  if (unlikely(__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE))) lock_wait(lock);
}

static inline void drop(struct lock *lock) {
  __atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
}

/* ---- events: queues behind a pollable fd (event.c) */

struct event {
  void *element;
  int type;
};

struct event_queue {
  int fd;
  pthread_mutex_t mutex;
  struct event *events;
  uint32_t capacity, head, tail;
};

int event_queue_open(struct event_queue *queue);
void event_queue_close(struct event_queue *queue);
void event_push(struct event_queue *queue, void *element, int type);
/* Events of an object that goes away are gone too; the fd may stay readable for them. */
void event_forget(struct event_queue *queue, void *element);

/* ---- devices and contexts (device.c, port.c) */

struct device {
  struct ibv_device base;
  /* Debian's libmlx5 and libefa look at words of a provider's own behind an ibv_device. */
  uint64_t zeroes[64];
  int index;
  char netdev[IF_NAMESIZE];
  int ifindex;
  uint8_t mac[6];
  /* Netdevs above it (VLANs, bonds) whose addresses are in its GID table: "v0.5+v0.6". */
  char uppers[256];
  struct device *next;
};

enum life {
  ALIVE,
  /* Every call fails with EIO. */
  DEAD,
  /* Posts are taken, nothing ever completes; every other call fails with EIO. */
  MUTE,
};

struct context {
  struct device *device;
  enum life life;
  struct event_queue async;
  uint32_t mtu;
  pthread_mutex_t flow_mutex;
  struct flow *flows;
  struct receiver *receiver;
  struct context *next;
  /* Last: it ends with the ibv_context that the user holds. */
  struct verbs_context verbs;
};

static inline struct context *to_context(struct ibv_context *context) {
  return outer(context, struct context, verbs.context);
}

static inline bool dead(struct ibv_context *context) {
  return load_relaxed(&to_context(context)->life) != ALIVE;
}

/* The result of a destroy call: on a dead device it fails, and the object stays the user's. */
static inline int released(struct ibv_context *context, void *object) {
  if (dead(context)) {
    bury(object);
    return EIO;
  }
  free(object);
  return 0;
}

static inline struct device *to_device(struct ibv_device *device) {
  return outer(device, struct device, base);
}

uint32_t netdev_mtu(const char *netdev);
bool netdev_running(const char *netdev);
/* Entries in use, at most GIDS. */
int gid_table(const struct device *device, struct ibv_gid_entry *entries);
/* The most bytes that a datagram may carry over a netdev of that MTU. */
uint32_t path_mtu(uint32_t netdev_mtu);
int port_query(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr, size_t size);
int device_query(struct ibv_context *context, const struct ibv_query_device_ex_input *input, struct ibv_device_attr_ex *attr,
                 size_t size);

/* ---- protection domains and memory regions (mr.c) */

struct pd {
  struct ibv_pd base;
  int uses;
  bool gone;
};

/* One per lkey >> 8. SGEs are checked against it. The key is 0 while there is no region. */
struct mr_entry {
  uint64_t start;
  uint64_t length;
  uint32_t key;
  uint32_t access;
  struct ibv_pd *pd;
  /* From an SGE's address to memory. */
  uint64_t delta;
  uint64_t unused[3];
};

extern struct mr_entry mr_table[MR_SLOTS];

static inline const struct mr_entry *mr_entry(uint32_t key) {
  return &mr_table[key >> 8 & (MR_SLOTS - 1)];
}

/* True if every byte of the SGE is inside a region of that key and domain. */
static inline bool mr_covers(const struct ibv_sge *sge, const struct ibv_pd *pd) {
  const struct mr_entry *entry = mr_entry(sge->lkey);
  uint64_t offset = sge->addr - entry->start;
  return likely(load_relaxed(&entry->key) == sge->lkey && entry->pd == pd && offset <= entry->length &&
                sge->length <= entry->length - offset);
}

static inline uint8_t *mr_memory(const struct ibv_sge *sge) {
  return (uint8_t *)(uintptr_t)(sge->addr + mr_entry(sge->lkey)->delta);
}

/* ---- completion queues and channels (cq.c, cq-ex.c, event.c) */

struct channel {
  struct ibv_comp_channel base;
  struct event_queue queue;
};

static inline struct channel *to_channel(struct ibv_comp_channel *channel) {
  return outer(channel, struct channel, base);
}

struct cqe {
  uint64_t wr_id;
  struct qp *qp;
  /* Number of the WR in its queue, counted from the last RESET. */
  uint64_t index;
  uint64_t time_ns;
  enum ibv_wc_status status;
  uint32_t vendor_err;
  uint32_t byte_len;
  uint32_t flow_tag;
  uint32_t src_qp;
  uint16_t wc_flags;
  bool receive;
  bool solicited;
};

enum armed { UNARMED, ARMED_SOLICITED, ARMED_ANY };

struct cq {
  struct ibv_cq_ex base;
  struct lock lock;
  struct cqe *ring;
  uint32_t mask;
  uint32_t head, tail;
  enum armed armed;
  bool overrun;
  bool wants_time;
  bool gone;
  /* Handed out by ibv_get_cq_event and ibv_get_async_event. */
  uint32_t comp_events, async_events;
  int uses;
  struct cqe current;
  struct cq *next;
};

static inline struct cq *to_cq(struct ibv_cq *cq) {
  return (struct cq *)cq;
}

/* False if the CQ had no room: it is dead then, and so must the queue pair be. */
bool cq_push(struct cq *cq, const struct cqe *cqe);
/* Takes the oldest completion off, and frees the slots up to its WR. */
bool cq_pop(struct cq *cq, struct cqe *cqe);
/* Removes the completions of a queue pair that goes away. */
void cq_purge(struct cq *cq, const struct qp *qp);
void cq_notify(struct cq *cq);
int cq_poll(struct ibv_cq *cq, int entries, struct ibv_wc *wc);
int cq_arm(struct ibv_cq *cq, int solicited_only);
struct cq *cq_create(struct ibv_context *context, uint32_t cqe, void *cq_context, struct ibv_comp_channel *channel,
                     uint32_t vector);
struct ibv_cq_ex *cq_create_ex(struct ibv_context *context, struct ibv_cq_init_attr_ex *attr);

/* ---- queue pairs (qp.c, post.c, wr.c, receive.c) */

struct slot {
  uint64_t wr_id;
  uint32_t inline_length;
  uint8_t flags;
  uint8_t num_sge;
  /* Status that a fault decided on when the WR was posted. */
  uint8_t forced;
};

/* The address that a datagram goes to. */
struct target {
  union ibv_gid from, to;
  uint32_t qpn, qkey;
};

/* Numbers count WRs from the last RESET: freed <= done <= head, and head - freed <= depth. */
struct send_queue {
  struct lock lock;
  uint32_t depth, mask, max_sge, max_inline;
  /* Posted. */
  uint64_t head;
  /* Executed: its bytes were read, its completion (if it has one) was written. */
  uint64_t done;
  /* WRs before this number are free, because a completion at or behind them was polled. The polling thread moves it. */
  uint64_t freed;
  struct slot *slots;
  struct ibv_sge *sges;
  uint8_t *inlines;
  /* For datagrams. */
  struct target *targets;
  /* State of the ibv_wr_* calls between start and complete. */
  uint64_t build;
  int build_error;
  /* When the next WR may go, by the rate limit. */
  uint64_t next_ns;
};

struct receive_queue {
  struct lock lock;
  uint32_t depth, mask, max_sge;
  uint64_t head, done, freed;
  struct slot *slots;
  struct ibv_sge *sges;
};

struct stats {
  uint64_t posts, posted, signalled, refused, bytes, frames;
  uint64_t completions, errors, flushed;
  uint64_t dropped_port_down, dropped_oversize, dropped_by_kernel;
  uint64_t received, dropped_no_buffer;
  uint64_t max_outstanding;
};

struct qp {
  struct ibv_qp_ex base;
  struct ibv_qp_init_attr init;
  /* The hardware's state; base.qp_base.state is the one that the user was last told. */
  enum ibv_qp_state state;
  bool has_wr_api;
  bool gone;
  uint32_t rate_kbps;
  struct context *context;
  struct send_queue sq;
  struct receive_queue rq;
  struct stats stats;
  uint32_t async_events;
  int flows;
  struct delivery *delivery;
  struct qp *next;
  /* For datagrams: its key, the GIDs that it is reached by, and the next queue pair that listens. */
  uint32_t qkey;
  struct ibv_gid_entry gid[GIDS];
  int gids;
  bool listening;
  struct qp *next_listener;
};

static inline struct qp *to_qp(struct ibv_qp *qp) {
  return (struct qp *)qp;
}

int send_post(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int receive_post(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
/*
 * With sq.lock held: executes the WRs that may be executed now; the engine executes the others. Returns when the next WR may go,
 * or UINT64_MAX.
 */
uint64_t send_progress(struct qp *qp, uint64_t now_ns);
/* With sq.lock held: puts the queue pair in ERR, and all outstanding WRs complete with a flush error. */
void qp_to_error(struct qp *qp);
/* Takes sq.lock. */
void qp_fatal(struct qp *qp);
void receive_flush(struct qp *qp);
void wr_install(struct qp *qp, uint64_t send_ops);
/* Checks a WR, for both ways of posting, and stores it in its slot. Returns 0 or an errno. */
int send_refusal(const struct qp *qp, uint64_t index, unsigned flags);
int send_store(struct qp *qp, uint64_t index, uint64_t wr_id, unsigned flags);
int send_store_sges(struct qp *qp, uint64_t index, const struct ibv_sge *sges, size_t n);
int send_store_inline(struct qp *qp, uint64_t index, const struct ibv_data_buf *buffers, size_t n);
/* Gives the hardware the slots before `head`, after they were stored. */
void send_commit(struct qp *qp, uint64_t head);
struct ibv_qp *qp_create_ex(struct ibv_context *context, struct ibv_qp_init_attr_ex *attr);
int qp_rate_limit(struct ibv_qp *qp, struct ibv_qp_rate_limit_attr *attr);

/* ---- the wire (deliver.c, frame.c, flow.c) */

int delivery_open(struct qp *qp);
void delivery_close(struct qp *qp);
/* Gathers and sends one frame; it may stay in a buffer until delivery_flush. */
void deliver(struct qp *qp, const struct ibv_sge *sges, uint32_t n, const uint8_t *inline_data, uint32_t bytes, unsigned flags);
void delivery_flush(struct qp *qp);
/* Copies the memory that SGEs name; returns how many bytes that is. */
uint32_t gather(uint8_t *to, const struct ibv_sge *sges, uint32_t n);
void delivery_finish(void);
bool wire_allowed(const char *netdev);

struct frame {
  const uint8_t *bytes;
  uint32_t length;
  uint16_t vlan_tci;
  uint16_t ether_type;
  bool tagged;
  /* Offset of the IP header; 0 if it is not IP. */
  uint32_t l3;
  int version;
  uint8_t protocol;
  /* Offset of the transport header; 0 if there is none (a later fragment, another protocol). */
  uint32_t l4;
  /* One past the IP packet's last byte. */
  uint32_t end;
};

void frame_parse(struct frame *frame, const uint8_t *bytes, uint32_t length);
/* Fills the checksums that IBV_SEND_IP_CSUM asks of mlx5: of the IPv4 header, and of UDP or TCP. */
void frame_fill_checksums(uint8_t *bytes, uint32_t length);
void frame_fill_l4_checksum(uint8_t *bytes, const struct frame *frame);
bool frame_checksums_good(const struct frame *frame);

struct ibv_flow *flow_create(struct ibv_qp *qp, struct ibv_flow_attr *attr);
int flow_destroy(struct ibv_flow *flow);
void receiver_stop(struct context *context);
/* A frame for this queue pair came in. */
void receive_frame(struct qp *qp, const uint8_t *bytes, uint32_t length, bool checksums_good, uint32_t tag);

/* A datagram for this queue pair came in, its header first. */
void receive_message(struct qp *qp, const uint8_t *bytes, uint32_t length, uint32_t from);

/* ---- datagrams (ud.c) */

static inline bool is_ud(const struct qp *qp) {
  return qp->base.qp_base.qp_type == IBV_QPT_UD;
}

/* Returns 0, or the errno that refuses a WR. */
int ud_target(struct qp *qp, uint64_t index, const struct ibv_send_wr *wr);
/* From now on senders may find the queue pair; from RTR on it takes datagrams. */
void ud_listen(struct qp *qp);
void ud_leave(struct qp *qp);
/* With sq.lock held: gathers the datagram of a slot and brings it to its receiver. */
void ud_deliver(struct qp *qp, uint64_t at, const struct ibv_sge *sges, uint32_t n, const uint8_t *inline_data, uint32_t bytes);

#include "nic.h"

#endif
