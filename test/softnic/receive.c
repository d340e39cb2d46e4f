/*
 * The receive queue. The rules kept here:
 * - posting is allowed from INIT on, and flushed in ERR; a full queue is ENOMEM, more SGEs than it was made for are EINVAL;
 * - a frame takes the oldest WR and fills its SGEs in turn; without a WR it is lost;
 * - a frame that does not fit completes with LOC_LEN_ERR, an SGE that is not covered by a region with local write with
 *   LOC_PROT_ERR; both put the queue pair into ERR;
 * - a slot is free again when its completion was polled.
 * A datagram that does so takes no lock of a send queue: it may come from the sender's own.
 */
#include <string.h>

#include "softnic.h"

/* With rq.lock held. */
static bool complete(struct qp *qp, enum ibv_wc_status status, uint32_t length, unsigned wc_flags, uint32_t tag, uint32_t from) {
  struct receive_queue *rq = &qp->rq;
  struct cqe cqe = {
      .wr_id = rq->slots[rq->done & rq->mask].wr_id,
      .qp = qp,
      .index = rq->done,
      .status = status,
      .vendor_err = status == IBV_WC_SUCCESS ? 0 : status == IBV_WC_WR_FLUSH_ERR ? 0xf9 : 0x32,
      .byte_len = length,
      .flow_tag = tag,
      .src_qp = from,
      .wc_flags = wc_flags,
      .receive = true,
  };
  rq->done++;
  return cq_push(to_cq(qp->base.qp_base.recv_cq), &cqe);
}

void receive_flush(struct qp *qp) {
  if (load_relaxed(&qp->context->life) != ALIVE) return;
  take(&qp->rq.lock);
  while (qp->rq.done != qp->rq.head) complete(qp, IBV_WC_WR_FLUSH_ERR, 0, 0, 0, 0);
  drop(&qp->rq.lock);
}

static int post_one(struct qp *qp, const struct ibv_recv_wr *wr) {
  struct receive_queue *rq = &qp->rq;
  if (load_relaxed(&qp->context->life) == DEAD) return EIO;
  if (load(&qp->state) == IBV_QPS_RESET) return EINVAL;
  if (rq->head - load(&rq->freed) >= rq->depth) return ENOMEM;
  if (wr->num_sge < 0 || (uint32_t)wr->num_sge > rq->max_sge) return EINVAL;
  uint64_t at = rq->head & rq->mask;
  rq->slots[at] = (struct slot){.wr_id = wr->wr_id, .num_sge = wr->num_sge};
  if (wr->num_sge) memcpy(&rq->sges[at * rq->max_sge], wr->sg_list, wr->num_sge * sizeof *wr->sg_list);
  rq->head++;
  return 0;
}

int receive_post(struct ibv_qp *base, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad) {
  struct qp *qp = to_qp(base);
  int error = 0;
  take(&qp->rq.lock);
  for (; wr; wr = wr->next) {
    error = post_one(qp, wr);
    if (error) {
      *bad = wr;
      break;
    }
    if (load(&qp->state) == IBV_QPS_ERR) complete(qp, IBV_WC_WR_FLUSH_ERR, 0, 0, 0, 0);
  }
  drop(&qp->rq.lock);
  return error;
}

static enum ibv_wc_status scatter(const struct qp *qp, const uint8_t *bytes, uint32_t length) {
  const struct receive_queue *rq = &qp->rq;
  uint64_t at = rq->done & rq->mask;
  const struct ibv_sge *sges = &rq->sges[at * rq->max_sge];
  for (uint32_t i = 0; i < rq->slots[at].num_sge && length; i++) {
    uint32_t n = sges[i].length < length ? sges[i].length : length;
    if (!n) continue;
    if (!mr_covers(&sges[i], qp->base.qp_base.pd)) return IBV_WC_LOC_PROT_ERR;
    if (!(mr_entry(sges[i].lkey)->access & IBV_ACCESS_LOCAL_WRITE)) return IBV_WC_LOC_PROT_ERR;
    memcpy(mr_memory(&sges[i]), bytes, n);
    bytes += n;
    length -= n;
  }
  return length ? IBV_WC_LOC_LEN_ERR : IBV_WC_SUCCESS;
}

/* Into the oldest WR, if there is one. `room`: the CQ had some. */
static enum ibv_wc_status receive(struct qp *qp, const uint8_t *bytes, uint32_t length, unsigned wc_flags, uint32_t tag,
                                  uint32_t from, bool *room) {
  enum ibv_wc_status status = IBV_WC_SUCCESS;
  take(&qp->rq.lock);
  enum ibv_qp_state state = load(&qp->state);
  if ((state != IBV_QPS_RTR && state != IBV_QPS_RTS && state != IBV_QPS_SQD) || qp->rq.done == qp->rq.head) {
    qp->stats.dropped_no_buffer++;
  } else {
    status = scatter(qp, bytes, length);
    if (status == IBV_WC_SUCCESS) qp->stats.received++;
    *room = complete(qp, status, length, wc_flags, tag, from);
  }
  drop(&qp->rq.lock);
  return status;
}

void receive_message(struct qp *qp, const uint8_t *bytes, uint32_t length, uint32_t from) {
  bool room = true;
  enum ibv_wc_status status = receive(qp, bytes, length, IBV_WC_GRH, 0, from, &room);
  if (status == IBV_WC_SUCCESS && room) return;
  store(&qp->state, IBV_QPS_ERR);
  receive_flush(qp);
}

void receive_frame(struct qp *qp, const uint8_t *bytes, uint32_t length, bool checksums_good, uint32_t tag) {
  bool room = true;
  enum ibv_wc_status status = receive(qp, bytes, length, checksums_good ? IBV_WC_IP_CSUM_OK : 0, tag, 0, &room);
  if (status == IBV_WC_SUCCESS && room) return;
  if (!room) {
    qp_fatal(qp);
    return;
  }
  take(&qp->sq.lock);
  qp_to_error(qp);
  drop(&qp->sq.lock);
}
