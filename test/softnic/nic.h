/*
 * State of the whole process: its settings and faults (fault.c), the thread that acts on them (engine.c), and the report
 * (report.c). Part of softnic.h.
 */
#ifndef SOFTNIC_NIC_H
#define SOFTNIC_NIC_H

enum mode { MODE_NULL, MODE_COPY, MODE_WIRE, MODE_PCAP, MODE_MODEL };

/* Why a post cannot take the fast way. */
enum hot {
  HOT_TRAP = 1,
  HOT_PACED = 2,
  HOT_STALLED = 4,
  HOT_PORT_DOWN = 8,
  HOT_DEAD = 16,
};

struct limits {
  uint64_t max_sge, max_qp_wr, max_cqe, max_inline;
  uint64_t checksum, pacing, pacing_burst, rate_min_kbps, rate_max_kbps;
  /* UINT64_MAX: what the process may lock. */
  uint64_t memlock_bytes;
  uint64_t copy_on_fork;
  uint64_t gids;
  uint64_t pin_us_per_mib;
  uint64_t cap_net_raw;
};

struct nic {
  enum mode mode;
  uint64_t model_ns;
  struct limits limits;
  unsigned hot;
  uint64_t pace_per_second;
  uint64_t pace_next_ns;
  bool absent;
  /* 1: every arm brings an event at once; n: every n-th. */
  uint64_t spurious_every, arms;
  pthread_mutex_t mutex;
  struct context *contexts;
  struct qp *qps;
  struct cq *cqs;
};

extern struct nic nic;

/* Reads the environment once. */
void nic_init(void);
/* Returns the errno that a fault has for the WR that is being posted, or 0. */
int trap_refuse(void);
/* Returns the completion status that a fault has for the WR that was posted, or 0. `stall`: a stall begins with this WR. */
enum ibv_wc_status trap_execute(bool *stall);
int trap_create_qp(void);
int trap_reg_mr(void);
/* Applies one line. Takes nic.mutex. Returns false and prints why if it is no command. */
bool fault_apply(const char *line);
/* Applies new lines of the control file, up to the last complete one. */
void fault_read_control(void);
const char *fault_control(void);

void engine_start(void);
void engine_wake(void);

enum kind { CONTEXTS, PDS, MRS, CHANNELS, CQS, QPS, FLOWS, AHS, KINDS };

void report_made(enum kind kind);
void report_gone(enum kind kind);
/* With nic.mutex held. */
void report_add(const struct stats *stats);
void report_rate_limit(uint32_t kbps, uint32_t burst_bytes);
void report_relaxed(void);
void report_fork_init(void);
void fork_environment(void);
int fork_protect(const void *address, size_t length);
void report_cq_overrun(void);
void report_comp_event(void);
void report_async_event(enum ibv_event_type type);
void report_unmatched(void);
void report_oversize_in(void);
void report_write(void);

/* Returns -1 if there is none of that name. */
int status_by_name(const char *name);

#endif
