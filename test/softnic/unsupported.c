/*
 * Verbs that this NIC has no use for: they fail with EOPNOTSUPP, as those of a provider without the feature do. The names that are
 * left, of the private version that only providers link against, are generated (symbols.sh) and end the program if they are ever
 * called.
 */
#include <string.h>

#include "softnic.h"

static void *none(void) {
  errno = EOPNOTSUPP;
  return NULL;
}

struct ibv_context *ibv_import_device(int fd) {
  (void)fd;
  return none();
}

struct ibv_pd *ibv_import_pd(struct ibv_context *context, uint32_t handle) {
  (void)context, (void)handle;
  return none();
}

void ibv_unimport_pd(struct ibv_pd *pd) {
  (void)pd;
}

struct ibv_mr *ibv_import_mr(struct ibv_pd *pd, uint32_t handle) {
  (void)pd, (void)handle;
  return none();
}

void ibv_unimport_mr(struct ibv_mr *mr) {
  (void)mr;
}

struct ibv_dm *ibv_import_dm(struct ibv_context *context, uint32_t handle) {
  (void)context, (void)handle;
  return none();
}

void ibv_unimport_dm(struct ibv_dm *dm) {
  (void)dm;
}

struct ibv_mr *ibv_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t length, uint64_t iova, int fd, int access) {
  (void)pd, (void)offset, (void)length, (void)iova, (void)fd, (void)access;
  return none();
}

int ibv_rereg_mr(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length, int access) {
  (void)mr, (void)flags, (void)pd, (void)addr, (void)length, (void)access;
  errno = EOPNOTSUPP;
  return IBV_REREG_MR_ERR_INPUT;
}

int ibv_resize_cq(struct ibv_cq *cq, int cqe) {
  (void)cq, (void)cqe;
  return EOPNOTSUPP;
}

struct ibv_srq *ibv_create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *attr) {
  (void)pd, (void)attr;
  return none();
}

int ibv_modify_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr, int mask) {
  (void)srq, (void)attr, (void)mask;
  return EOPNOTSUPP;
}

int ibv_query_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr) {
  (void)srq, (void)attr;
  return EOPNOTSUPP;
}

int ibv_destroy_srq(struct ibv_srq *srq) {
  (void)srq;
  return EOPNOTSUPP;
}

int ibv_init_ah_from_wc(struct ibv_context *context, uint8_t port, struct ibv_wc *wc, struct ibv_grh *grh,
                        struct ibv_ah_attr *attr) {
  (void)context, (void)port, (void)wc, (void)grh, (void)attr;
  return EOPNOTSUPP;
}

struct ibv_ah *ibv_create_ah_from_wc(struct ibv_pd *pd, struct ibv_wc *wc, struct ibv_grh *grh, uint8_t port) {
  (void)pd, (void)wc, (void)grh, (void)port;
  return none();
}

int ibv_attach_mcast(struct ibv_qp *qp, const union ibv_gid *gid, uint16_t lid) {
  (void)qp, (void)gid, (void)lid;
  return EOPNOTSUPP;
}

int ibv_detach_mcast(struct ibv_qp *qp, const union ibv_gid *gid, uint16_t lid) {
  (void)qp, (void)gid, (void)lid;
  return EOPNOTSUPP;
}

int ibv_query_qp_data_in_order(struct ibv_qp *qp, enum ibv_wr_opcode op, uint32_t flags) {
  (void)qp, (void)op, (void)flags;
  return 0;
}

int ibv_set_ece(struct ibv_qp *qp, struct ibv_ece *ece) {
  (void)qp, (void)ece;
  return EOPNOTSUPP;
}

int ibv_query_ece(struct ibv_qp *qp, struct ibv_ece *ece) {
  (void)qp;
  memset(ece, 0, sizeof *ece);
  return EOPNOTSUPP;
}

int ibv_resolve_eth_l2_from_gid(struct ibv_context *context, struct ibv_ah_attr *attr, uint8_t mac[ETHERNET_LL_SIZE],
                                uint16_t *vid) {
  (void)context, (void)attr, (void)mac, (void)vid;
  return EOPNOTSUPP;
}

int ibv_dontfork_range(void *base, size_t size);
int ibv_dontfork_range(void *base, size_t size) {
  (void)base, (void)size;
  return 0;
}

int ibv_dofork_range(void *base, size_t size);
int ibv_dofork_range(void *base, size_t size) {
  (void)base, (void)size;
  return 0;
}
