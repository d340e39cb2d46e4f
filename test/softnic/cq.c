/*
 * Completion queues. The rules kept here:
 * - a CQ holds exactly the entries it was made for; one more is an overrun: IBV_EVENT_CQ_ERR, nothing is written to the CQ ever
 *   again, and completions that were in it may still be polled (ibv_poll_cq(3));
 * - polling a send completion frees every slot of the send queue up to its WR, and nothing else does;
 * - a failed completion has a valid wr_id, status, qp_num and vendor_err, and rubbish elsewhere;
 * - arming is one-shot, and holds for completions that come after it: those already there bring no event (ibv_get_cq_event(3));
 * - destroying waits until all events were acknowledged, and fails with EBUSY while queue pairs use the CQ.
 */
#include <stdlib.h>
#include <string.h>

#include "softnic.h"

bool cq_push(struct cq *cq, const struct cqe *cqe) {
  take(&cq->lock);
  bool room = !cq->overrun && cq->tail - cq->head < (uint32_t)cq->base.cqe;
  bool first_overrun = !room && !cq->overrun;
  bool fire = false;
  if (room) {
    struct cqe *entry = &cq->ring[cq->tail & cq->mask];
    *entry = *cqe;
    if (cq->wants_time) entry->time_ns = now_ns();
    store(&cq->tail, cq->tail + 1);
    fire = cq->armed == ARMED_ANY || (cq->armed == ARMED_SOLICITED && (cqe->solicited || cqe->status != IBV_WC_SUCCESS));
    if (fire) cq->armed = UNARMED;
  } else {
    cq->overrun = true;
  }
  drop(&cq->lock);
  if (fire) cq_notify(cq);
  if (first_overrun) {
    report_cq_overrun();
    report_async_event(IBV_EVENT_CQ_ERR);
    event_push(&to_context(cq->base.context)->async, cq, IBV_EVENT_CQ_ERR);
  }
  return room;
}

void cq_notify(struct cq *cq) {
  if (!cq->base.channel) return;
  report_comp_event();
  event_push(&to_channel(cq->base.channel)->queue, cq, 0);
}

/* With the lock held. */
static inline void pop(struct cq *cq, struct cqe *cqe) {
  *cqe = cq->ring[cq->head & cq->mask];
  store(&cq->head, cq->head + 1);
  uint64_t *freed = cqe->receive ? &cqe->qp->rq.freed : &cqe->qp->sq.freed;
  store(freed, cqe->index + 1);
}

bool cq_pop(struct cq *cq, struct cqe *cqe) {
  take(&cq->lock);
  bool any = cq->head != cq->tail;
  if (any) pop(cq, cqe);
  drop(&cq->lock);
  return any;
}

void cq_purge(struct cq *cq, const struct qp *qp) {
  take(&cq->lock);
  uint32_t kept = cq->head;
  for (uint32_t i = cq->head; i != cq->tail; i++) {
    struct cqe cqe = cq->ring[i & cq->mask];
    if (cqe.qp != qp) cq->ring[kept++ & cq->mask] = cqe;
  }
  cq->tail = kept;
  drop(&cq->lock);
}

static void tell(const struct cqe *cqe, struct ibv_wc *wc) {
  if (likely(cqe->status == IBV_WC_SUCCESS)) {
    *wc = (struct ibv_wc){
        .wr_id = cqe->wr_id,
        .opcode = cqe->receive ? IBV_WC_RECV : IBV_WC_SEND,
        .byte_len = cqe->byte_len,
        .qp_num = cqe->qp->base.qp_base.qp_num,
        .src_qp = cqe->src_qp,
        .wc_flags = cqe->wc_flags,
    };
    return;
  }
  memset(wc, 0xa5, sizeof *wc);
  wc->wr_id = cqe->wr_id;
  wc->status = cqe->status;
  wc->vendor_err = cqe->vendor_err;
  wc->qp_num = cqe->qp->base.qp_base.qp_num;
}

int cq_poll(struct ibv_cq *base, int entries, struct ibv_wc *wc) {
  struct cq *cq = to_cq(base);
  if (load(&cq->tail) == load_relaxed(&cq->head)) return 0;
  int n = 0;
  take(&cq->lock);
  while (n < entries && cq->head != cq->tail) {
    struct cqe cqe;
    pop(cq, &cqe);
    tell(&cqe, &wc[n++]);
  }
  drop(&cq->lock);
  return n;
}

int cq_arm(struct ibv_cq *base, int solicited_only) {
  struct cq *cq = to_cq(base);
  if (dead(base->context)) return EIO;
  take(&cq->lock);
  if (!solicited_only) cq->armed = ARMED_ANY;
  else if (cq->armed == UNARMED) cq->armed = ARMED_SOLICITED;
  drop(&cq->lock);
  uint64_t every = load_relaxed(&nic.spurious_every);
  if (unlikely(every) && (add(&nic.arms, 1) + 1) % every == 0) cq_notify(cq);
  return 0;
}

struct cq *cq_create(struct ibv_context *context, uint32_t cqe, void *cq_context, struct ibv_comp_channel *channel,
                     uint32_t vector) {
  static uint32_t handle;
  int error = 0;
  if (dead(context)) error = EIO;
  else if (cqe < 1 || cqe > nic.limits.max_cqe || vector >= (uint32_t)context->num_comp_vectors) error = EINVAL;
  else if (channel && channel->context != context) error = EINVAL;
  struct cq *cq = error ? NULL : calloc(1, sizeof *cq);
  uint32_t ring = 1;
  while (ring < cqe) ring *= 2;
  if (cq) cq->ring = calloc(ring, sizeof *cq->ring);
  if (!cq || !cq->ring) {
    free(cq);
    errno = error ? error : ENOMEM;
    return NULL;
  }
  cq->mask = ring - 1;
  cq->base.context = context;
  cq->base.channel = channel;
  cq->base.cq_context = cq_context;
  cq->base.handle = add(&handle, 1);
  cq->base.cqe = cqe;
  pthread_mutex_init(&cq->base.mutex, NULL);
  pthread_cond_init(&cq->base.cond, NULL);
  if (channel) add(&channel->refcnt, 1);
  pthread_mutex_lock(&nic.mutex);
  cq->next = nic.cqs;
  nic.cqs = cq;
  pthread_mutex_unlock(&nic.mutex);
  report_made(CQS);
  return cq;
}

struct ibv_cq *ibv_create_cq(struct ibv_context *context, int cqe, void *cq_context, struct ibv_comp_channel *channel, int vector) {
  return (struct ibv_cq *)cq_create(context, cqe < 0 ? 0 : cqe, cq_context, channel, vector);
}

int ibv_destroy_cq(struct ibv_cq *base) {
  struct cq *cq = to_cq(base);
  struct ibv_context *context = base->context;
  if (load(&cq->uses)) return EBUSY;
  if (cq->gone) return EIO;
  pthread_mutex_lock(&nic.mutex);
  for (struct cq **at = &nic.cqs; *at; at = &(*at)->next)
    if (*at == cq) {
      *at = cq->next;
      break;
    }
  pthread_mutex_unlock(&nic.mutex);
  if (base->channel) event_forget(&to_channel(base->channel)->queue, cq);
  event_forget(&to_context(context)->async, cq);
  pthread_mutex_lock(&base->mutex);
  while (base->comp_events_completed != cq->comp_events || base->async_events_completed != cq->async_events)
    pthread_cond_wait(&base->cond, &base->mutex);
  pthread_mutex_unlock(&base->mutex);
  if (base->channel) add(&base->channel->refcnt, -1);
  cq->gone = true;
  report_gone(CQS);
  if (!dead(context)) {
    pthread_mutex_destroy(&base->mutex);
    pthread_cond_destroy(&base->cond);
    free(cq->ring);
  }
  return released(context, cq);
}
