/*
 * The report: JSON in the file named by SOFTNIC_REPORT, with the objects that were made and not destroyed, and the traffic. It is
 * written when the last context is closed and when the process ends. "leaked" counts objects alive at that time. Closing a context
 * does not destroy the objects left in it, because a program that forgets them leaks their memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "softnic.h"

enum { EVENT_TYPES = IBV_EVENT_WQ_FATAL + 1, RATES = 32 };

static struct {
  uint64_t made[KINDS], gone[KINDS];
  uint64_t cq_overruns, comp_events, unmatched, oversize_in;
  uint64_t async_events[EVENT_TYPES];
  uint64_t rate_limits;
  uint64_t relaxed;
  uint64_t fork_inits, fork_inits_late;
  uint32_t rates[RATES], bursts[RATES];
  struct stats total;
} report;

void report_made(enum kind kind) {
  add(&report.made[kind], 1);
}

void report_gone(enum kind kind) {
  add(&report.gone[kind], 1);
}

void report_cq_overrun(void) {
  add(&report.cq_overruns, 1);
}

void report_comp_event(void) {
  add(&report.comp_events, 1);
}

void report_async_event(enum ibv_event_type type) {
  add(&report.async_events[type], 1);
}

void report_unmatched(void) {
  add(&report.unmatched, 1);
}

void report_oversize_in(void) {
  add(&report.oversize_in, 1);
}

void report_rate_limit(uint32_t kbps, uint32_t burst_bytes) {
  uint64_t i = add(&report.rate_limits, 1) % RATES;
  report.rates[i] = kbps;
  report.bursts[i] = burst_bytes;
}

void report_relaxed(void) {
  add(&report.relaxed, 1);
}

void report_fork_init(void) {
  add(load(&report.made[PDS]) ? &report.fork_inits_late : &report.fork_inits, 1);
}

static void sum(struct stats *total, const struct stats *s) {
  total->posts += s->posts;
  total->posted += s->posted;
  total->signalled += s->signalled;
  total->refused += s->refused;
  total->bytes += s->bytes;
  total->frames += s->frames;
  total->completions += s->completions;
  total->errors += s->errors;
  total->flushed += s->flushed;
  total->dropped_port_down += s->dropped_port_down;
  total->dropped_oversize += s->dropped_oversize;
  total->dropped_by_kernel += s->dropped_by_kernel;
  total->received += s->received;
  total->dropped_no_buffer += s->dropped_no_buffer;
  if (s->max_outstanding > total->max_outstanding) total->max_outstanding = s->max_outstanding;
}

void report_add(const struct stats *stats) {
  sum(&report.total, stats);
}

static void print(FILE *f) {
  static const char *const kinds[KINDS] = {"contexts", "pds", "mrs", "channels", "cqs", "qps", "flows", "ahs"};
  struct stats s = report.total;
  pthread_mutex_lock(&nic.mutex);
  for (const struct qp *qp = nic.qps; qp; qp = qp->next) sum(&s, &qp->stats);
  pthread_mutex_unlock(&nic.mutex);
  fputs("{\n  \"leaked\": {", f);
  for (int k = 0; k < KINDS; k++)
    fprintf(f, "%s\"%s\": %lu", k ? ", " : "", kinds[k], load(&report.made[k]) - load(&report.gone[k]));
  fputs("},\n  \"made\": {", f);
  for (int k = 0; k < KINDS; k++) fprintf(f, "%s\"%s\": %lu", k ? ", " : "", kinds[k], load(&report.made[k]));
  fputs("},\n", f);
  const struct {
    const char *name;
    uint64_t n;
  } numbers[] = {
      {"posts", s.posts},
      {"posted", s.posted},
      {"signalled", s.signalled},
      {"refused", s.refused},
      {"bytes", s.bytes},
      {"frames", s.frames},
      {"completions", s.completions},
      {"errors", s.errors},
      {"flushed", s.flushed},
      {"maxOutstanding", s.max_outstanding},
      {"droppedPortDown", s.dropped_port_down},
      {"droppedOversize", s.dropped_oversize},
      {"droppedByKernel", s.dropped_by_kernel},
      {"received", s.received},
      {"receivedUnmatched", load(&report.unmatched)},
      {"droppedNoBuffer", s.dropped_no_buffer},
      {"droppedOversizeIn", load(&report.oversize_in)},
      {"cqOverruns", load(&report.cq_overruns)},
      {"completionEvents", load(&report.comp_events)},
      {"portErrors", load(&report.async_events[IBV_EVENT_PORT_ERR])},
      {"qpFatals", load(&report.async_events[IBV_EVENT_QP_FATAL])},
      {"forkInits", load(&report.fork_inits)},
      {"forkInitsLate", load(&report.fork_inits_late)},
      {"relaxedOrdering", load(&report.relaxed)},
      {"deviceFatals", load(&report.async_events[IBV_EVENT_DEVICE_FATAL])},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) fprintf(f, "  \"%s\": %lu,\n", numbers[i].name, numbers[i].n);
  /* The latest 32, oldest first. */
  uint64_t n = load(&report.rate_limits);
  fputs("  \"rateLimitsKbps\": [", f);
  for (uint64_t i = n > RATES ? n - RATES : 0; i < n; i++)
    fprintf(f, "%s%u", i && i != n - RATES ? ", " : "", report.rates[i % RATES]);
  fputs("],\n  \"burstsBytes\": [", f);
  for (uint64_t i = n > RATES ? n - RATES : 0; i < n; i++)
    fprintf(f, "%s%u", i && i != n - RATES ? ", " : "", report.bursts[i % RATES]);
  fputs("]\n}\n", f);
}

/* "%p" in the name stands for the process id. */
static void file_name(const char *pattern, char *name, size_t room) {
  size_t n = 0;
  for (const char *p = pattern; *p && n + 12 < room; p++) {
    if (p[0] == '%' && p[1] == 'p') {
      n += snprintf(name + n, room - n, "%d", (int)getpid());
      p++;
    } else {
      name[n++] = *p;
    }
  }
  name[n] = 0;
}

void report_write(void) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  const char *pattern = getenv("SOFTNIC_REPORT");
  char name[4096], temporary[4096 + 8];
  if (!pattern || !*pattern) return;
  file_name(pattern, name, sizeof name);
  snprintf(temporary, sizeof temporary, "%s.new", name);
  pthread_mutex_lock(&mutex);
  FILE *f = fopen(temporary, "we");
  if (f) {
    print(f);
    fclose(f);
    rename(temporary, name);
  } else {
    perror("softnic: SOFTNIC_REPORT");
  }
  pthread_mutex_unlock(&mutex);
}

__attribute__((destructor)) static void at_exit(void) {
  delivery_finish();
  report_write();
}
