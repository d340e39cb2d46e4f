/*
 * The send queue. The rules kept here (ibv_post_send(3), and mlx5 where the page is silent):
 * - a slot is free again only when a signalled completion at or behind its WR was polled; a full queue is ENOMEM;
 * - more SGEs or inline bytes than the queue was made for are ENOMEM; an opcode other than SEND, an unknown flag, checksum offload
 *   on a device without it, and posting before RTS are EINVAL;
 * - posting stops at the first WR that is refused and names it in bad_wr; those before it are posted;
 * - an SGE that is not covered by its region completes with LOC_PROT_ERR, a frame shorter than an Ethernet header with LOC_LEN_ERR;
 *   the queue pair is then in ERR, and everything behind completes with WR_FLUSH_ERR, signalled or not;
 * - posting in ERR is allowed, and flushed;
 * - a frame larger than the MTU, and any frame while the port is down, is dropped although its WR succeeds; of datagrams, see ud.c.
 * Inline data is copied when posted and its lkey is not looked at; other memory is read when the WR is executed.
 */
#include <string.h>

#include "softnic.h"

/* mlx5's own numbers for the two. */
enum { VENDOR_PROTECTION = 0x51, VENDOR_FLUSHED = 0xf9, VENDOR_OTHER = 0x88 };

static const uint64_t PACE_CREDIT_NS = 1000000;

static uint32_t vendor_error(enum ibv_wc_status status) {
  switch (status) {
    case IBV_WC_SUCCESS: return 0;
    case IBV_WC_LOC_PROT_ERR: return VENDOR_PROTECTION;
    case IBV_WC_WR_FLUSH_ERR: return VENDOR_FLUSHED;
    default: return VENDOR_OTHER;
  }
}

/* Writes a completion. If there is no room for it, queue pair and CQ are lost: false. */
static bool complete(struct qp *qp, uint64_t index, uint64_t wr_id, enum ibv_wc_status status) {
  struct cqe cqe = {.wr_id = wr_id, .qp = qp, .index = index, .status = status, .vendor_err = vendor_error(status)};
  if (status == IBV_WC_SUCCESS) qp->stats.completions++;
  else if (status == IBV_WC_WR_FLUSH_ERR) qp->stats.flushed++;
  else qp->stats.errors++;
  if (likely(cq_push(to_cq(qp->base.qp_base.send_cq), &cqe))) return true;
  if (qp->state == IBV_QPS_ERR) return false;
  store(&qp->state, IBV_QPS_ERR);
  qp->rate_kbps = 0;
  report_async_event(IBV_EVENT_QP_FATAL);
  event_push(&qp->context->async, qp, IBV_EVENT_QP_FATAL);
  return false;
}

static inline bool covered(const struct qp *qp, const struct ibv_sge *sges, uint32_t n, uint64_t *bytes) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (unlikely(sges[i].length == 0)) continue;
    if (unlikely(!mr_covers(&sges[i], qp->base.qp_base.pd))) return false;
    sum += sges[i].length;
  }
  *bytes = sum;
  return true;
}

static inline uint64_t sq_at(const struct qp *qp) {
  return qp->sq.done & qp->sq.mask;
}

static enum ibv_wc_status execute(struct qp *qp, const struct slot *slot, const struct ibv_sge *sges, const uint8_t *inline_data) {
  bool inlined = slot->flags & IBV_SEND_INLINE;
  uint64_t bytes = slot->inline_length;
  if (slot->forced) return slot->forced;
  if (!inlined && !covered(qp, sges, slot->num_sge, &bytes)) return IBV_WC_LOC_PROT_ERR;
  if (bytes < ETHERNET_BYTES && !is_ud(qp)) return IBV_WC_LOC_LEN_ERR;
  qp->stats.bytes += bytes;
  if (is_ud(qp)) {
    ud_deliver(qp, sq_at(qp), sges, slot->num_sge, inlined ? inline_data : NULL, bytes);
    return IBV_WC_SUCCESS;
  }
  /* Room for a VLAN tag, as NICs leave. */
  if (bytes > load_relaxed(&qp->context->mtu) + ETHERNET_BYTES + 4 || bytes > MAX_FRAME_BYTES) {
    qp->stats.dropped_oversize++;
  } else if (load_relaxed(&nic.hot) & HOT_PORT_DOWN) {
    qp->stats.dropped_port_down++;
  } else {
    qp->stats.frames++;
    deliver(qp, sges, slot->num_sge, inlined ? inline_data : NULL, bytes, slot->flags);
  }
  return IBV_WC_SUCCESS;
}

static void run_next(struct qp *qp) {
  struct send_queue *sq = &qp->sq;
  uint64_t at = sq->done & sq->mask;
  const struct slot *slot = &sq->slots[at];
  enum ibv_wc_status status = IBV_WC_WR_FLUSH_ERR;
  uint64_t bytes = qp->stats.bytes;
  if (qp->state != IBV_QPS_ERR) status = execute(qp, slot, &sq->sges[at * sq->max_sge], &sq->inlines[at * sq->max_inline]);
  if (qp->rate_kbps) sq->next_ns += (qp->stats.bytes - bytes) * 8000000 / qp->rate_kbps;
  uint64_t index = sq->done++;
  if (status == IBV_WC_SUCCESS && !(slot->flags & IBV_SEND_SIGNALED)) return;
  delivery_flush(qp);
  if (status != IBV_WC_SUCCESS) {
    store(&qp->state, IBV_QPS_ERR);
    qp->rate_kbps = 0;
  }
  complete(qp, index, slot->wr_id, status);
  if (status != IBV_WC_SUCCESS && status != IBV_WC_WR_FLUSH_ERR) receive_flush(qp);
}

/* Returns when the next WR may be executed, 0 for now. If that is now, it takes its turn. */
static uint64_t turn(struct qp *qp, uint64_t now) {
  uint64_t due = 0;
  if (qp->rate_kbps) {
    uint64_t earliest = now > PACE_CREDIT_NS ? now - PACE_CREDIT_NS : 1;
    if (qp->sq.next_ns < earliest) qp->sq.next_ns = earliest;
    if (qp->sq.next_ns > now) due = qp->sq.next_ns;
  }
  if (load_relaxed(&nic.hot) & HOT_PACED) {
    uint64_t earliest = now > PACE_CREDIT_NS ? now - PACE_CREDIT_NS : 1;
    if (nic.pace_next_ns < earliest) nic.pace_next_ns = earliest;
    if (nic.pace_next_ns > now && nic.pace_next_ns > due) due = nic.pace_next_ns;
    if (!due) nic.pace_next_ns += UINT64_C(1000000000) / nic.pace_per_second;
  }
  return due;
}

uint64_t send_progress(struct qp *qp, uint64_t now) {
  struct send_queue *sq = &qp->sq;
  uint64_t due = UINT64_MAX;
  while (sq->done != sq->head) {
    if (load_relaxed(&qp->context->life) != ALIVE) break;
    if (qp->state != IBV_QPS_ERR) {
      if (qp->state != IBV_QPS_RTS || load_relaxed(&nic.hot) & HOT_STALLED) break;
      uint64_t when = turn(qp, now);
      if (when) {
        due = when;
        break;
      }
    }
    run_next(qp);
  }
  delivery_flush(qp);
  return due;
}

int send_refusal(const struct qp *qp, uint64_t index, unsigned flags) {
  if (unlikely(load_relaxed(&qp->context->life) == DEAD)) return EIO;
  if (qp->state < IBV_QPS_RTS) return EINVAL;
  if (index - load(&qp->sq.freed) >= qp->sq.depth) return ENOMEM;
  if (flags & ~(IBV_SEND_FENCE | IBV_SEND_SIGNALED | IBV_SEND_SOLICITED | IBV_SEND_INLINE | IBV_SEND_IP_CSUM)) return EINVAL;
  return flags & IBV_SEND_IP_CSUM && (!nic.limits.checksum || is_ud(qp)) ? EINVAL : 0;
}

int send_store(struct qp *qp, uint64_t index, uint64_t wr_id, unsigned flags) {
  int error = load_relaxed(&nic.hot) & HOT_TRAP ? trap_refuse() : 0;
  if (qp->init.sq_sig_all) flags |= IBV_SEND_SIGNALED;
  qp->sq.slots[index & qp->sq.mask] = (struct slot){.wr_id = wr_id, .flags = flags};
  return error;
}

int send_store_sges(struct qp *qp, uint64_t index, const struct ibv_sge *sges, size_t n) {
  if (n > qp->sq.max_sge) return ENOMEM;
  uint64_t at = index & qp->sq.mask;
  qp->sq.slots[at].num_sge = n;
  if (n) memcpy(&qp->sq.sges[at * qp->sq.max_sge], sges, n * sizeof *sges);
  return 0;
}

int send_store_inline(struct qp *qp, uint64_t index, const struct ibv_data_buf *buffers, size_t n) {
  uint64_t at = index & qp->sq.mask;
  uint8_t *to = &qp->sq.inlines[at * qp->sq.max_inline];
  size_t length = 0;
  for (size_t i = 0; i < n; i++) {
    if (buffers[i].length > qp->sq.max_inline - length) return ENOMEM;
    memcpy(to + length, buffers[i].addr, buffers[i].length);
    length += buffers[i].length;
  }
  qp->sq.slots[at].inline_length = length;
  qp->sq.slots[at].flags |= IBV_SEND_INLINE;
  return 0;
}

static void count_outstanding(struct qp *qp) {
  uint64_t outstanding = qp->sq.head - load_relaxed(&qp->sq.freed);
  if (outstanding > qp->stats.max_outstanding) qp->stats.max_outstanding = outstanding;
}

void send_commit(struct qp *qp, uint64_t head) {
  struct send_queue *sq = &qp->sq;
  qp->stats.posted += head - sq->head;
  while (sq->head != head) {
    struct slot *slot = &sq->slots[sq->head & sq->mask];
    if (slot->flags & IBV_SEND_SIGNALED) qp->stats.signalled++;
    if (load_relaxed(&nic.hot) & HOT_TRAP) {
      bool stall = false;
      slot->forced = trap_execute(&stall);
      if (stall) {
        send_progress(qp, 0);
        __atomic_fetch_or(&nic.hot, HOT_STALLED, __ATOMIC_RELAXED);
      }
    }
    sq->head++;
  }
  count_outstanding(qp);
  send_progress(qp, 0);
  if (sq->done != sq->head) engine_wake();
}

static int store_wr(struct qp *qp, uint64_t index, const struct ibv_send_wr *wr) {
  int error = send_refusal(qp, index, wr->send_flags);
  if (error) return error;
  if (wr->opcode != IBV_WR_SEND) return EINVAL;
  if (wr->num_sge < 0 || (uint32_t)wr->num_sge > qp->sq.max_sge) return ENOMEM;
  error = send_store(qp, index, wr->wr_id, wr->send_flags);
  if (!error && is_ud(qp)) error = ud_target(qp, index, wr);
  if (error || !(wr->send_flags & IBV_SEND_INLINE)) return error ? error : send_store_sges(qp, index, wr->sg_list, wr->num_sge);
  struct ibv_data_buf buffers[256];
  for (int i = 0; i < wr->num_sge; i++)
    buffers[i] = (struct ibv_data_buf){(void *)(uintptr_t)wr->sg_list[i].addr, wr->sg_list[i].length};
  return send_store_inline(qp, index, buffers, wr->num_sge);
}

/* Posts WRs with all that modes, faults and flags ask for. Returns 0, or an errno with the WR in bad. */
static int post_any(struct qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad) {
  uint64_t head = qp->sq.head;
  int error = 0;
  for (; wr; wr = wr->next, head++) {
    error = store_wr(qp, head, wr);
    if (error) {
      *bad = wr;
      break;
    }
  }
  send_commit(qp, head);
  return error;
}

/*
 * Takes WRs that are executed at once and touch no memory: they are only checked. Returns the first WR that wants more than that,
 * which post_any then takes, or NULL.
 */
static struct ibv_send_wr *post_fast(struct qp *qp, struct ibv_send_wr *wr) {
  struct send_queue *sq = &qp->sq;
  const unsigned plain = IBV_SEND_SIGNALED | IBV_SEND_SOLICITED | (nic.limits.checksum ? IBV_SEND_IP_CSUM : 0);
  const unsigned always = qp->init.sq_sig_all ? IBV_SEND_SIGNALED : 0;
  const uint64_t most = (uint64_t)load_relaxed(&qp->context->mtu) + ETHERNET_BYTES + 4;
  const uint64_t first = sq->head;
  uint64_t head = first, signalled = 0, sum = 0;
  uint64_t end = load(&sq->freed) + sq->depth;
  for (; wr; wr = wr->next) {
    uint64_t bytes;
    if (unlikely(head == end)) {
      end = load(&sq->freed) + sq->depth;
      if (head == end) break;
    }
    if (unlikely(wr->opcode != IBV_WR_SEND || (uint32_t)wr->num_sge > sq->max_sge || wr->send_flags & ~plain)) break;
    if (unlikely(!covered(qp, wr->sg_list, wr->num_sge, &bytes) || bytes < ETHERNET_BYTES || bytes > most)) break;
    sum += bytes;
    uint64_t index = head++;
    if ((wr->send_flags | always) & IBV_SEND_SIGNALED) {
      signalled++;
      if (unlikely(!complete(qp, index, wr->wr_id, IBV_WC_SUCCESS))) {
        wr = wr->next;
        break;
      }
    }
  }
  sq->head = sq->done = head;
  qp->stats.posted += head - first;
  qp->stats.frames += head - first;
  qp->stats.signalled += signalled;
  qp->stats.bytes += sum;
  count_outstanding(qp);
  return wr;
}

int send_post(struct ibv_qp *base, struct ibv_send_wr *wr, struct ibv_send_wr **bad) {
  struct qp *qp = to_qp(base);
  int error = 0;
  take(&qp->sq.lock);
  uint64_t before = qp->stats.posted;
  bool touches = (nic.mode != MODE_NULL && nic.mode != MODE_MODEL) || is_ud(qp);
  if (likely(!touches && qp->state == IBV_QPS_RTS && !load_relaxed(&nic.hot) && !qp->rate_kbps && qp->sq.done == qp->sq.head))
    wr = post_fast(qp, wr);
  if (unlikely(wr)) error = post_any(qp, wr, bad);
  qp->stats.posts++;
  if (error) qp->stats.refused++;
  if (nic.mode == MODE_MODEL) busy_wait((qp->stats.posted - before) * nic.model_ns);
  drop(&qp->sq.lock);
  return error;
}
