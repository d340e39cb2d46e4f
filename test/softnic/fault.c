/*
 * The settings of the process (SOFTNIC_MODE and the others, README.md) and its faults: one language of one-line commands, in
 * SOFTNIC_FAULTS before the start and in the file named by SOFTNIC_CONTROL while it runs. That file only grows. A file of the same
 * name with ".ack" says how many of its lines were applied.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "softnic.h"

struct nic nic = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .pace_next_ns = 1,
    .limits =
        {
            .max_sge = 30,
            .max_qp_wr = 32768,
            .max_cqe = 4194303,
            .max_inline = 928,
            .checksum = 1,
            .pacing = 1,
            .pacing_burst = 0,
            .rate_min_kbps = 1000,
            .rate_max_kbps = 100000000,
            .memlock_bytes = UINT64_MAX,
            .copy_on_fork = 1,
            .gids = 1,
            .cap_net_raw = 1,
        },
};

/* ---- traps: something that happens to the n-th of a kind */

enum trap { FAIL, REFUSE, STALL, REG_MR, CREATE_QP };

static struct {
  struct lock lock;
  int count;
  struct {
    enum trap kind;
    uint64_t left;
    /* 0: once. */
    uint64_t every;
    int value;
  } trap[32];
} traps;

static bool set_trap(enum trap kind, uint64_t n, bool every, int value) {
  const int most = sizeof traps.trap / sizeof *traps.trap;
  take(&traps.lock);
  int i = 0;
  while (i < traps.count && traps.trap[i].left) i++; /* one that is spent, or a new one */
  bool room = i < most && n > 0;
  if (room) {
    if (i == traps.count) traps.count++;
    traps.trap[i].kind = kind;
    traps.trap[i].left = n;
    traps.trap[i].every = every ? n : 0;
    traps.trap[i].value = value;
  }
  drop(&traps.lock);
  if (room && kind <= STALL) __atomic_fetch_or(&nic.hot, HOT_TRAP, __ATOMIC_RELAXED);
  return room;
}

/* Counts one for every trap of the kind. Returns the value of the trap that is due, or 0. */
static int spring(enum trap kind) {
  int value = 0;
  take(&traps.lock);
  for (int i = 0; i < traps.count; i++) {
    if (traps.trap[i].kind != kind || traps.trap[i].left == 0 || --traps.trap[i].left) continue;
    traps.trap[i].left = traps.trap[i].every;
    value = traps.trap[i].value;
  }
  drop(&traps.lock);
  return value;
}

int trap_refuse(void) {
  return spring(REFUSE);
}

enum ibv_wc_status trap_execute(bool *stall) {
  *stall = spring(STALL);
  return spring(FAIL);
}

int trap_reg_mr(void) {
  return spring(REG_MR);
}

int trap_create_qp(void) {
  return spring(CREATE_QP);
}

/* ---- commands */

struct command {
  int words;
  char *word[4];
};

static bool number(const char *text, uint64_t *n) {
  char *end;
  errno = 0;
  *n = strtoull(text, &end, 10);
  return *text >= '0' && *text <= '9' && !*end && !errno;
}

static int errno_by_name(const char *name) {
  static const struct {
    const char *name;
    int number;
  } known[] = {{"ENOMEM", ENOMEM}, {"EINVAL", EINVAL}, {"EPERM", EPERM},   {"EACCES", EACCES}, {"EIO", EIO},
               {"EAGAIN", EAGAIN}, {"EFAULT", EFAULT}, {"ENOSPC", ENOSPC}, {"EBUSY", EBUSY},   {"EOPNOTSUPP", EOPNOTSUPP}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(name, known[i].name)) return known[i].number;
  return -1;
}

static bool trap_command(const struct command *c) {
  static const char *const names[] = {"fail", "refuse", "stall", "reg-mr", "create-qp"};
  for (int kind = FAIL; kind <= CREATE_QP; kind++) {
    size_t length = strlen(names[kind]);
    if (strncmp(c->word[0], names[kind], length)) continue;
    bool every = !strcmp(c->word[0] + length, "-every");
    uint64_t n;
    if ((!every && c->word[0][length]) || c->words < 2 || !number(c->word[1], &n)) return false;
    if (kind == STALL) return c->words == 2 && !every && set_trap(kind, n, false, 1);
    int value = c->words != 3 ? -1 : kind == FAIL ? status_by_name(c->word[2]) : errno_by_name(c->word[2]);
    return value > 0 && set_trap(kind, n, every, value);
  }
  return false;
}

static bool limit_command(const struct command *c) {
  static const struct {
    const char *name;
    uint64_t *limit;
    uint64_t most;
  } known[] = {
      {"max_sge", &nic.limits.max_sge, 255},
      {"max_qp_wr", &nic.limits.max_qp_wr, 1 << 20},
      {"max_cqe", &nic.limits.max_cqe, 1 << 26},
      {"max_inline", &nic.limits.max_inline, 4096},
      {"checksum", &nic.limits.checksum, 1},
      {"pacing", &nic.limits.pacing, 1},
      {"pacing_burst", &nic.limits.pacing_burst, 1},
      {"rate_min_kbps", &nic.limits.rate_min_kbps, UINT32_MAX},
      {"rate_max_kbps", &nic.limits.rate_max_kbps, UINT32_MAX},
      {"memlock_bytes", &nic.limits.memlock_bytes, UINT64_MAX},
      {"copy_on_fork", &nic.limits.copy_on_fork, 1},
      {"gids", &nic.limits.gids, 1},
      {"pin_us_per_mib", &nic.limits.pin_us_per_mib, 1000000},
      {"cap_net_raw", &nic.limits.cap_net_raw, 1},
  };
  uint64_t n;
  if (c->words != 3 || !number(c->word[2], &n)) return false;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(c->word[1], known[i].name) && n <= known[i].most) {
      *known[i].limit = n;
      return true;
    }
  return false;
}

static void set_hot(unsigned bit, bool on) {
  if (on) __atomic_fetch_or(&nic.hot, bit, __ATOMIC_RELAXED);
  else __atomic_fetch_and(&nic.hot, ~bit, __ATOMIC_RELAXED);
}

static bool pace_command(const struct command *c) {
  uint64_t n;
  if (c->words != 2 || !number(c->word[1], &n) || n > 1000000000) return false;
  nic.pace_per_second = n ? n : nic.pace_per_second;
  set_hot(HOT_PACED, n);
  engine_start();
  return true;
}

static void everywhere(enum ibv_event_type type) {
  for (struct context *c = nic.contexts; c; c = c->next) {
    if (c->life != ALIVE) continue;
    report_async_event(type);
    event_push(&c->async, NULL, type);
  }
}

static bool port_command(const struct command *c) {
  if (c->words != 2 || (strcmp(c->word[1], "up") && strcmp(c->word[1], "down"))) return false;
  bool down = !strcmp(c->word[1], "down");
  bool was_down = load_relaxed(&nic.hot) & HOT_PORT_DOWN;
  set_hot(HOT_PORT_DOWN, down);
  if (down != was_down) everywhere(down ? IBV_EVENT_PORT_ERR : IBV_EVENT_PORT_ACTIVE);
  return true;
}

static bool remove_command(const struct command *c) {
  bool mute = c->words == 2 && !strcmp(c->word[1], "mute");
  if (c->words > 1 && !mute) return false;
  store(&nic.absent, true);
  set_hot(HOT_DEAD, true);
  everywhere(IBV_EVENT_DEVICE_FATAL);
  for (struct context *x = nic.contexts; x; x = x->next)
    if (x->life == ALIVE) store(&x->life, mute ? MUTE : DEAD);
  return true;
}

static bool spurious_command(const struct command *c) {
  if (c->words == 1) {
    for (struct cq *cq = nic.cqs; cq; cq = cq->next) cq_notify(cq);
    return true;
  }
  return false;
}

static bool spurious_every_command(const struct command *c) {
  uint64_t n;
  if (c->words != 2 || !number(c->word[1], &n)) return false;
  store(&nic.spurious_every, n);
  return true;
}

static bool alone(const struct command *c) {
  return c->words == 1;
}

static bool resume_command(const struct command *c) {
  set_hot(HOT_STALLED, false);
  return alone(c);
}

static bool insert_command(const struct command *c) {
  store(&nic.absent, false);
  return alone(c);
}

static bool fatal_command(const struct command *c) {
  for (struct qp *qp = nic.qps; qp; qp = qp->next)
    if (qp->context->life == ALIVE) qp_fatal(qp);
  return alone(c);
}

static bool clear_command(const struct command *c) {
  take(&traps.lock);
  traps.count = 0;
  drop(&traps.lock);
  store(&nic.spurious_every, 0);
  set_hot(HOT_TRAP | HOT_STALLED | HOT_PACED, false);
  return alone(c);
}

static bool apply(const struct command *c) {
  static const struct {
    const char *name;
    bool (*run)(const struct command *);
  } known[] = {
      {"limit", limit_command},       {"pace", pace_command},     {"port", port_command},
      {"remove", remove_command},     {"insert", insert_command}, {"resume", resume_command},
      {"spurious", spurious_command}, {"clear", clear_command},   {"spurious-every", spurious_every_command},
      {"qp-fatal", fatal_command},
  };
  if (!strcmp(c->word[0], "stall") && c->words == 1) {
    set_hot(HOT_STALLED, true);
    return true;
  }
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(c->word[0], known[i].name)) return known[i].run(c);
  return trap_command(c);
}

bool fault_apply(const char *line) {
  char *copy = strdup(line), *rest = NULL;
  struct command c = {0};
  for (char *word = strtok_r(copy, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest)) {
    if (c.words == 4) break;
    c.word[c.words++] = word;
  }
  pthread_mutex_lock(&nic.mutex);
  bool good = c.words == 0 || c.word[0][0] == '#' || apply(&c);
  pthread_mutex_unlock(&nic.mutex);
  free(copy);
  return good;
}

/* ---- where commands and settings come from */

const char *fault_control(void) {
  const char *name = getenv("SOFTNIC_CONTROL");
  return name && *name ? name : NULL;
}

static void acknowledge(const char *control, long lines, const char *bad) {
  char name[4096];
  if (snprintf(name, sizeof name, "%s.ack", control) >= (int)sizeof name) return;
  FILE *f = fopen(name, "we");
  if (!f) return;
  if (bad) fprintf(f, "%ld not a command: %s\n", lines, bad);
  else fprintf(f, "%ld\n", lines);
  fclose(f);
}

void fault_read_control(void) {
  static long offset, lines;
  const char *name = fault_control();
  FILE *f = name ? fopen(name, "re") : NULL;
  char *line = NULL, *bad = NULL;
  size_t room = 0;
  if (!f || fseek(f, offset, SEEK_SET) < 0) {
    if (f) fclose(f);
    return;
  }
  for (ssize_t n; (n = getline(&line, &room, f)) > 0 && line[n - 1] == '\n';) {
    offset += n;
    lines++;
    line[n - 1] = 0;
    if (!fault_apply(line) && !bad) bad = strdup(line);
  }
  acknowledge(name, lines, bad);
  free(bad);
  free(line);
  fclose(f);
}

static void stop(const char *what, const char *text) {
  fprintf(stderr, "softnic: %s: %s\n", what, text);
  abort();
}

static void read_environment(void) {
  static const char *const modes[] = {"null", "copy", "wire", "pcap", "model"};
  const char *mode = getenv("SOFTNIC_MODE"), *cost = getenv("SOFTNIC_MODEL_NS"), *faults = getenv("SOFTNIC_FAULTS");
  while (mode && *mode && strcmp(modes[nic.mode], mode))
    if (++nic.mode > MODE_MODEL) stop("SOFTNIC_MODE is null, copy, wire, pcap or model", mode);
  nic.model_ns = 30;
  if (cost && !number(cost, &nic.model_ns)) stop("SOFTNIC_MODEL_NS is a number", cost);
  if (nic.mode == MODE_MODEL) busy_wait_calibrate();
  char *copy = strdup(faults ? faults : ""), *rest = NULL;
  for (char *line = strtok_r(copy, ";\n", &rest); line; line = strtok_r(NULL, ";\n", &rest))
    if (!fault_apply(line)) stop("SOFTNIC_FAULTS: not a command", line);
  free(copy);
  fault_read_control();
}

void nic_init(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, read_environment);
}
