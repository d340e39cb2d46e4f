/*
 * Extended completion queues (ibv_create_cq_ex(3)): the same queue read field by field. Rules kept here: ibv_start_poll and
 * ibv_next_poll return ENOENT when there is nothing; a field can be read only if it was asked for when the CQ was made (there is no
 * function otherwise); flags that are not supported are EOPNOTSUPP.
 */
#include <time.h>

#include "softnic.h"

static struct cq *of(struct ibv_cq_ex *cq) {
  return (struct cq *)cq;
}

static int next(struct ibv_cq_ex *base) {
  struct cq *cq = of(base);
  if (!cq_pop(cq, &cq->current)) return ENOENT;
  base->wr_id = cq->current.wr_id;
  base->status = cq->current.status;
  return 0;
}

static int start(struct ibv_cq_ex *base, struct ibv_poll_cq_attr *attr) {
  return attr->comp_mask ? EINVAL : next(base);
}

static void end(struct ibv_cq_ex *base) {
  (void)base;
}

static enum ibv_wc_opcode read_opcode(struct ibv_cq_ex *cq) {
  return of(cq)->current.receive ? IBV_WC_RECV : IBV_WC_SEND;
}

static uint32_t read_vendor_err(struct ibv_cq_ex *cq) {
  return of(cq)->current.vendor_err;
}

static unsigned int read_wc_flags(struct ibv_cq_ex *cq) {
  return of(cq)->current.wc_flags;
}

static uint32_t read_byte_len(struct ibv_cq_ex *cq) {
  return of(cq)->current.byte_len;
}

static uint32_t read_qp_num(struct ibv_cq_ex *cq) {
  return of(cq)->current.qp->base.qp_base.qp_num;
}

static uint32_t read_zero(struct ibv_cq_ex *cq) {
  (void)cq;
  return 0;
}

static uint8_t read_zero_byte(struct ibv_cq_ex *cq) {
  (void)cq;
  return 0;
}

/* Ticks of query_rt_values' raw clock are nanoseconds: hca_core_clock says 1 000 000 a millisecond. */
static uint64_t read_time(struct ibv_cq_ex *cq) {
  return of(cq)->current.time_ns;
}

static uint64_t read_wallclock(struct ibv_cq_ex *cq) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec - (now_ns() - of(cq)->current.time_ns);
}

static uint32_t read_flow_tag(struct ibv_cq_ex *cq) {
  return of(cq)->current.flow_tag;
}

struct ibv_cq_ex *cq_create_ex(struct ibv_context *context, struct ibv_cq_init_attr_ex *attr) {
  const uint64_t known = IBV_WC_STANDARD_FLAGS | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP |
                         IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK | IBV_WC_EX_WITH_FLOW_TAG;
  uint32_t flags = attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS ? attr->flags : 0;
  if (attr->comp_mask & ~IBV_CQ_INIT_ATTR_MASK_FLAGS || flags & ~IBV_CREATE_CQ_ATTR_SINGLE_THREADED || attr->wc_flags & ~known) {
    errno = EOPNOTSUPP;
    return NULL;
  }
  struct cq *cq = cq_create(context, attr->cqe, attr->cq_context, attr->channel, attr->comp_vector);
  if (!cq) return NULL;
  struct ibv_cq_ex *ex = &cq->base;
  const uint64_t wanted = attr->wc_flags;
  ex->start_poll = start;
  ex->next_poll = next;
  ex->end_poll = end;
  ex->read_opcode = read_opcode;
  ex->read_vendor_err = read_vendor_err;
  ex->read_wc_flags = read_wc_flags;
  if (wanted & IBV_WC_EX_WITH_BYTE_LEN) ex->read_byte_len = read_byte_len;
  if (wanted & IBV_WC_EX_WITH_IMM) ex->read_imm_data = read_zero;
  if (wanted & IBV_WC_EX_WITH_QP_NUM) ex->read_qp_num = read_qp_num;
  if (wanted & IBV_WC_EX_WITH_SRC_QP) ex->read_src_qp = read_zero;
  if (wanted & IBV_WC_EX_WITH_SLID) ex->read_slid = read_zero;
  if (wanted & IBV_WC_EX_WITH_SL) ex->read_sl = read_zero_byte;
  if (wanted & IBV_WC_EX_WITH_DLID_PATH_BITS) ex->read_dlid_path_bits = read_zero_byte;
  if (wanted & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP) ex->read_completion_ts = read_time;
  if (wanted & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK) ex->read_completion_wallclock_ns = read_wallclock;
  if (wanted & IBV_WC_EX_WITH_FLOW_TAG) ex->read_flow_tag = read_flow_tag;
  cq->wants_time = wanted & (IBV_WC_EX_WITH_COMPLETION_TIMESTAMP | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK);
  return ex;
}
