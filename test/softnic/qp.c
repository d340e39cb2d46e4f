/*
 * Queue pairs: making, moving through their states, destroying. The rules kept here:
 * - RAW_PACKET needs CAP_NET_RAW (EPERM), UD does not; more WRs, SGEs or inline bytes than the device has are EINVAL, and so is a send ring of
 *   more than max_qp_wr blocks of 64 bytes: a WR costs one block with one SGE and two with two to five, as on mlx5;
 * - the kernel's state table: RESET to INIT needs the port and nothing else (UD: partition and key too), then RTR, then RTS (UD: a
 *   sequence number); ERR leaves only to RESET;
 * - RESET drops posted WRs and takes the queue pair's completions out of its CQs; ERR completes posted WRs, flushed;
 * - a rate limit can be set in RTS only (or on the way there), must lie in the device's range, and is lost on leaving RTS;
 * - a queue pair with flow rules on it cannot be destroyed (EBUSY), and destroying waits for acknowledged async events.
 */
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

#include "softnic.h"

static uint32_t power_of_two(uint32_t n) {
  uint32_t p = 1;
  while (p < n) p *= 2;
  return p;
}

static bool ring_fits(const struct ibv_qp_cap *cap) {
  uint64_t sges = 48 + 16 * (uint64_t)cap->max_send_sge;
  uint64_t inlined = cap->max_inline_data ? 52 + (uint64_t)cap->max_inline_data : 0;
  uint64_t wqe = ((sges > inlined ? sges : inlined) + 63) & ~UINT64_C(63);
  return power_of_two(cap->max_send_wr) * wqe <= nic.limits.max_qp_wr * 64;
}

static int refusal(struct ibv_context *context, const struct ibv_qp_init_attr_ex *attr) {
  const uint32_t known = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_CREATE_FLAGS | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  const struct ibv_qp_cap *cap = &attr->cap;
  const struct limits *limits = &nic.limits;
  if (dead(context)) return EIO;
  bool ud = attr->qp_type == IBV_QPT_UD;
  if ((attr->qp_type != IBV_QPT_RAW_PACKET && !ud) || attr->srq || attr->comp_mask & ~known) return EOPNOTSUPP;
  if (attr->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS && attr->create_flags & ~IBV_QP_CREATE_BLOCK_SELF_MCAST_LB) return EOPNOTSUPP;
  if (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS && (ud || attr->send_ops_flags & ~(uint64_t)IBV_QP_EX_WITH_SEND))
    return EOPNOTSUPP;
  if (!(attr->comp_mask & IBV_QP_INIT_ATTR_PD) || !attr->pd || !attr->send_cq || !attr->recv_cq) return EINVAL;
  if (attr->pd->context != context || attr->send_cq->context != context || attr->recv_cq->context != context) return EINVAL;
  if (!ud && limits->cap_net_raw && !capable(CAP_NET_RAW)) return EPERM;
  if (cap->max_send_wr > limits->max_qp_wr || cap->max_recv_wr > limits->max_qp_wr) return EINVAL;
  if (cap->max_send_sge > limits->max_sge || cap->max_recv_sge > limits->max_sge) return EINVAL;
  if (cap->max_inline_data > limits->max_inline || !ring_fits(cap)) return EINVAL;
  return trap_create_qp();
}

static void release(struct qp *qp) {
  delivery_close(qp);
  free(qp->sq.slots);
  free(qp->sq.sges);
  free(qp->sq.inlines);
  free(qp->sq.targets);
  free(qp->rq.slots);
  free(qp->rq.sges);
  pthread_mutex_destroy(&qp->base.qp_base.mutex);
  pthread_cond_destroy(&qp->base.qp_base.cond);
}

static int allocate(struct qp *qp, const struct ibv_qp_cap *cap) {
  struct send_queue *sq = &qp->sq;
  struct receive_queue *rq = &qp->rq;
  sq->depth = cap->max_send_wr;
  sq->max_sge = cap->max_send_sge;
  sq->max_inline = cap->max_inline_data;
  rq->depth = cap->max_recv_wr;
  rq->max_sge = cap->max_recv_sge;
  size_t ring = power_of_two(sq->depth);
  sq->mask = ring - 1;
  /* calloc, because slots that are never used then cost no memory. */
  sq->slots = calloc(ring, sizeof *sq->slots);
  sq->sges = calloc(ring * (sq->max_sge ? sq->max_sge : 1), sizeof *sq->sges);
  sq->inlines = calloc(ring, sq->max_inline ? sq->max_inline : 1);
  sq->targets = calloc(is_ud(qp) ? ring : 1, sizeof *sq->targets);
  ring = power_of_two(rq->depth);
  rq->mask = ring - 1;
  rq->slots = calloc(ring, sizeof *rq->slots);
  rq->sges = calloc(ring * (rq->max_sge ? rq->max_sge : 1), sizeof *rq->sges);
  if (!sq->slots || !sq->sges || !sq->inlines || !sq->targets || !rq->slots || !rq->sges) return ENOMEM;
  return delivery_open(qp);
}

struct ibv_qp *qp_create_ex(struct ibv_context *context, struct ibv_qp_init_attr_ex *attr) {
  static uint32_t number = 0x100;
  int error = refusal(context, attr);
  struct qp *qp = error ? NULL : calloc(1, sizeof *qp);
  if (!qp) {
    errno = error ? error : ENOMEM;
    return NULL;
  }
  struct ibv_qp *base = &qp->base.qp_base;
  pthread_mutex_init(&base->mutex, NULL);
  pthread_cond_init(&base->cond, NULL);
  qp->context = to_context(context);
  base->qp_type = attr->qp_type;
  error = allocate(qp, &attr->cap);
  if (error) {
    release(qp);
    free(qp);
    errno = error;
    return NULL;
  }
  memcpy(&qp->init, attr, sizeof qp->init); /* the longer struct begins with the shorter one */
  base->context = context;
  base->qp_context = attr->qp_context;
  base->pd = attr->pd;
  base->send_cq = attr->send_cq;
  base->recv_cq = attr->recv_cq;
  base->qp_num = base->handle = add(&number, 1);
  base->state = qp->state = IBV_QPS_RESET;
  if (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) wr_install(qp, attr->send_ops_flags);
  add(&((struct pd *)attr->pd)->uses, 1);
  add(&to_cq(attr->send_cq)->uses, 1);
  add(&to_cq(attr->recv_cq)->uses, 1);
  pthread_mutex_lock(&nic.mutex);
  qp->next = nic.qps;
  nic.qps = qp;
  pthread_mutex_unlock(&nic.mutex);
  report_made(QPS);
  return base;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr) {
  struct ibv_qp_init_attr_ex ex = {0};
  memcpy(&ex, attr, sizeof *attr);
  ex.comp_mask = IBV_QP_INIT_ATTR_PD; /* lies in the padding of the shorter one */
  ex.pd = pd;
  return qp_create_ex(pd->context, &ex);
}

struct ibv_qp_ex *ibv_qp_to_qp_ex(struct ibv_qp *qp) {
  return to_qp(qp)->has_wr_api ? &to_qp(qp)->base : NULL;
}

int ibv_destroy_qp(struct ibv_qp *base) {
  struct qp *qp = to_qp(base);
  if (load(&qp->flows)) return EBUSY;
  if (qp->gone) return EIO;
  ud_leave(qp);
  pthread_mutex_lock(&nic.mutex);
  for (struct qp **at = &nic.qps; *at; at = &(*at)->next)
    if (*at == qp) {
      *at = qp->next;
      report_add(&qp->stats);
      break;
    }
  pthread_mutex_unlock(&nic.mutex);
  cq_purge(to_cq(base->send_cq), qp);
  cq_purge(to_cq(base->recv_cq), qp);
  event_forget(&qp->context->async, qp);
  pthread_mutex_lock(&base->mutex);
  while (base->events_completed != qp->async_events) pthread_cond_wait(&base->cond, &base->mutex);
  pthread_mutex_unlock(&base->mutex);
  add(&((struct pd *)base->pd)->uses, -1);
  add(&to_cq(base->send_cq)->uses, -1);
  add(&to_cq(base->recv_cq)->uses, -1);
  qp->gone = true;
  report_gone(QPS);
  if (!dead(base->context)) release(qp);
  return released(base->context, qp);
}

void qp_to_error(struct qp *qp) {
  store(&qp->state, IBV_QPS_ERR);
  qp->rate_kbps = 0;
  send_progress(qp, 0);
  receive_flush(qp);
}

void qp_fatal(struct qp *qp) {
  take(&qp->sq.lock);
  if (qp->state != IBV_QPS_RESET) qp_to_error(qp);
  drop(&qp->sq.lock);
  report_async_event(IBV_EVENT_QP_FATAL);
  event_push(&qp->context->async, qp, IBV_EVENT_QP_FATAL);
}

/* With sq.lock held. */
static void reset(struct qp *qp) {
  take(&qp->rq.lock);
  cq_purge(to_cq(qp->base.qp_base.send_cq), qp);
  cq_purge(to_cq(qp->base.qp_base.recv_cq), qp);
  qp->sq.head = qp->sq.done = qp->sq.freed = 0;
  qp->rq.head = qp->rq.done = qp->rq.freed = 0;
  drop(&qp->rq.lock);
}

static bool allowed(enum ibv_qp_state from, enum ibv_qp_state to) {
#define TO(state) (1u << IBV_QPS_##state)
  static const unsigned table[] = {
      [IBV_QPS_RESET] = TO(RESET) | TO(INIT),
      [IBV_QPS_INIT] = TO(RESET) | TO(INIT) | TO(RTR) | TO(ERR),
      [IBV_QPS_RTR] = TO(RESET) | TO(RTS) | TO(ERR),
      [IBV_QPS_RTS] = TO(RESET) | TO(RTS) | TO(SQD) | TO(ERR),
      [IBV_QPS_SQD] = TO(RESET) | TO(RTS) | TO(SQD) | TO(ERR),
      [IBV_QPS_ERR] = TO(RESET) | TO(ERR),
  };
#undef TO
  return from < sizeof table / sizeof *table && to <= IBV_QPS_ERR && table[from] >> to & 1;
}

static int rate_refusal(uint32_t kbps) {
  const struct limits *limits = &nic.limits;
  if (!limits->pacing) return EOPNOTSUPP;
  return kbps && (kbps < limits->rate_min_kbps || kbps > limits->rate_max_kbps) ? EINVAL : 0;
}

/* With sq.lock held. */
static int modify(struct qp *qp, const struct ibv_qp_attr *attr, int mask) {
  enum ibv_qp_state from = qp->state;
  enum ibv_qp_state to = mask & IBV_QP_STATE ? attr->qp_state : from;
  bool ud = is_ud(qp);
  int needed = 0;
  if (from == IBV_QPS_RESET && to == IBV_QPS_INIT) needed = IBV_QP_PORT | (ud ? IBV_QP_PKEY_INDEX | IBV_QP_QKEY : 0);
  if (ud && from == IBV_QPS_RTR && to == IBV_QPS_RTS) needed = IBV_QP_SQ_PSN;
  int optional = to == IBV_QPS_RTS && !ud ? IBV_QP_RATE_LIMIT : 0;
  int given = mask & ~(IBV_QP_STATE | IBV_QP_CUR_STATE);
  if (mask & IBV_QP_CUR_STATE && attr->cur_qp_state != from) return EINVAL;
  if (!allowed(from, to) || (given & needed) != needed || given & ~(needed | optional)) return EINVAL;
  if (given & IBV_QP_PORT && attr->port_num != PORT) return EINVAL;
  if (given & IBV_QP_PKEY_INDEX && attr->pkey_index != 0) return EINVAL;
  if (given & IBV_QP_QKEY) qp->qkey = attr->qkey;
  if (given & IBV_QP_RATE_LIMIT) {
    int error = rate_refusal(attr->rate_limit);
    if (error) return error;
  }
  if (to == IBV_QPS_ERR) {
    qp_to_error(qp);
    return 0;
  }
  if (to == IBV_QPS_RESET) reset(qp);
  if (to == IBV_QPS_RTR) store(&qp->context->mtu, netdev_mtu(qp->context->device->netdev));
  if (ud && to == IBV_QPS_RTR) ud_listen(qp);
  store(&qp->state, to);
  if (to != IBV_QPS_RTS) qp->rate_kbps = 0;
  if (given & IBV_QP_RATE_LIMIT) {
    qp->rate_kbps = attr->rate_limit;
    report_rate_limit(attr->rate_limit, 0);
    engine_start();
  }
  send_progress(qp, 0);
  return 0;
}

int ibv_modify_qp(struct ibv_qp *base, struct ibv_qp_attr *attr, int mask) {
  struct qp *qp = to_qp(base);
  if (dead(base->context)) return EIO;
  take(&qp->sq.lock);
  int error = modify(qp, attr, mask);
  if (!error && mask & IBV_QP_STATE) base->state = attr->qp_state;
  drop(&qp->sq.lock);
  return error;
}

int qp_rate_limit(struct ibv_qp *base, struct ibv_qp_rate_limit_attr *attr) {
  struct qp *qp = to_qp(base);
  if (dead(base->context)) return EIO;
  if (attr->comp_mask) return EINVAL;
  if ((attr->max_burst_sz || attr->typical_pkt_sz) && !nic.limits.pacing_burst) return EINVAL;
  int error = rate_refusal(attr->rate_limit);
  if (error) return error;
  engine_start();
  take(&qp->sq.lock);
  if (qp->state == IBV_QPS_RTS) qp->rate_kbps = attr->rate_limit;
  else error = EINVAL;
  if (!error) send_progress(qp, 0);
  drop(&qp->sq.lock);
  if (!error) report_rate_limit(attr->rate_limit, attr->max_burst_sz);
  return error;
}

int ibv_query_qp(struct ibv_qp *base, struct ibv_qp_attr *attr, int mask, struct ibv_qp_init_attr *init) {
  struct qp *qp = to_qp(base);
  (void)mask;
  if (dead(base->context)) return EIO;
  memset(attr, 0, sizeof *attr);
  take(&qp->sq.lock);
  base->state = attr->qp_state = attr->cur_qp_state = qp->state;
  attr->rate_limit = qp->rate_kbps;
  drop(&qp->sq.lock);
  attr->port_num = PORT;
  attr->cap = qp->init.cap;
  *init = qp->init;
  return 0;
}
