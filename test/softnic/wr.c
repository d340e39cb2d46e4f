/*
 * Posting by the ibv_wr_* calls (ibv_wr_post(3)). Rules kept here: everything between ibv_wr_start and ibv_wr_complete is posted,
 * or, if any of it was refused or ibv_wr_abort was called, none of it; the first errno is what ibv_wr_complete returns; the queue
 * pair is locked in between. Only for queue pairs made with IBV_QP_INIT_ATTR_SEND_OPS_FLAGS.
 */
#include "softnic.h"

static struct qp *of(struct ibv_qp_ex *qp) {
  return (struct qp *)qp;
}

static void start(struct ibv_qp_ex *base) {
  struct qp *qp = of(base);
  take(&qp->sq.lock);
  qp->sq.build = qp->sq.head;
  qp->sq.build_error = 0;
}

static void add_send(struct ibv_qp_ex *base) {
  struct qp *qp = of(base);
  struct send_queue *sq = &qp->sq;
  if (sq->build_error) return;
  sq->build_error = send_refusal(qp, sq->build, base->wr_flags);
  if (!sq->build_error) sq->build_error = send_store(qp, sq->build, base->wr_id, base->wr_flags & ~IBV_SEND_INLINE);
  if (!sq->build_error) sq->build++;
}

static void set_sge_list(struct ibv_qp_ex *base, size_t n, const struct ibv_sge *sges) {
  struct qp *qp = of(base);
  if (!qp->sq.build_error) qp->sq.build_error = send_store_sges(qp, qp->sq.build - 1, sges, n);
}

static void set_sge(struct ibv_qp_ex *base, uint32_t lkey, uint64_t addr, uint32_t length) {
  struct ibv_sge sge = {addr, length, lkey};
  set_sge_list(base, 1, &sge);
}

static void set_inline_data_list(struct ibv_qp_ex *base, size_t n, const struct ibv_data_buf *buffers) {
  struct qp *qp = of(base);
  if (!qp->sq.build_error) qp->sq.build_error = send_store_inline(qp, qp->sq.build - 1, buffers, n);
}

static void set_inline_data(struct ibv_qp_ex *base, void *addr, size_t length) {
  struct ibv_data_buf buffer = {addr, length};
  set_inline_data_list(base, 1, &buffer);
}

static int complete(struct ibv_qp_ex *base) {
  struct qp *qp = of(base);
  int error = qp->sq.build_error;
  uint64_t before = qp->sq.head;
  if (!error) send_commit(qp, qp->sq.build);
  else qp->stats.refused++;
  qp->stats.posts++;
  if (nic.mode == MODE_MODEL) busy_wait((qp->sq.head - before) * nic.model_ns);
  drop(&qp->sq.lock);
  return error;
}

static void give_up(struct ibv_qp_ex *base) {
  drop(&of(base)->sq.lock);
}

void wr_install(struct qp *qp, uint64_t send_ops) {
  struct ibv_qp_ex *base = &qp->base;
  qp->has_wr_api = true;
  base->wr_start = start;
  if (send_ops & IBV_QP_EX_WITH_SEND) base->wr_send = add_send;
  base->wr_set_sge = set_sge;
  base->wr_set_sge_list = set_sge_list;
  base->wr_set_inline_data = set_inline_data;
  base->wr_set_inline_data_list = set_inline_data_list;
  base->wr_complete = complete;
  base->wr_abort = give_up;
}
