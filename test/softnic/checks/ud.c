/* Datagrams: the rules of ud.c. */
#include "check.h"

enum { KEY = 0x1234, SLOT = 256, HEADER = 40 };

static struct rig ud_open(int receives, uint32_t key) {
  struct options o = {.receives = receives, .fresh = true};
  struct rig r = rig_open(o);
  EQUAL(ibv_destroy_qp(r.qp), 0);
  struct ibv_qp_init_attr init = qp_init(&r, &o);
  init.qp_type = IBV_QPT_UD;
  r.qp = ibv_create_qp(r.pd, &init);
  EXPECT(r.qp);
  struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = key};
  EQUAL(ibv_modify_qp(r.qp, &attr, IBV_QP_STATE | IBV_QP_PORT), EINVAL);
  EQUAL(ibv_modify_qp(r.qp, &attr, IBV_QP_STATE | IBV_QP_PORT | IBV_QP_PKEY_INDEX | IBV_QP_QKEY), 0);
  attr.qp_state = IBV_QPS_RTR;
  EQUAL(ibv_modify_qp(r.qp, &attr, IBV_QP_STATE), 0);
  attr.qp_state = IBV_QPS_RTS;
  EQUAL(ibv_modify_qp(r.qp, &attr, IBV_QP_STATE), EINVAL);
  EQUAL(ibv_modify_qp(r.qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN), 0);
  return r;
}

/* The device's GID that is an IPv4 address. */
static int ipv4_gid(struct ibv_context *context, union ibv_gid *gid) {
  for (int i = 0; ibv_query_gid(context, 1, i, gid) == 0; i++)
    if (!gid->raw[0] && gid->raw[10] == 0xff) return i;
  EXPECT(!"there is one");
  return -1;
}

static struct ibv_ah *handle(struct rig *r, const union ibv_gid *to) {
  union ibv_gid own;
  struct ibv_ah_attr attr = {.is_global = 1, .port_num = 1, .grh = {.dgid = *to, .sgid_index = ipv4_gid(r->context, &own)}};
  return ibv_create_ah(r->pd, &attr);
}

static void receives(struct rig *r, int n) {
  struct ibv_recv_wr *bad;
  for (int i = 0; i < n; i++) {
    struct ibv_sge sge = {(uintptr_t)r->memory + i * SLOT, SLOT, r->mr->lkey};
    struct ibv_recv_wr wr = {.wr_id = 100 + i, .sg_list = &sge, .num_sge = 1};
    EQUAL(ibv_post_recv(r->qp, &wr, &bad), 0);
  }
}

static void send_to(struct rig *r, struct ibv_ah *ah, uint32_t qpn, uint32_t key, uint32_t bytes) {
  struct ibv_sge sge = {(uintptr_t)r->memory + MEMORY_BYTES / 2, bytes, r->mr->lkey};
  struct ibv_send_wr wr = {.wr_id = 7, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED};
  wr.wr.ud.ah = ah;
  wr.wr.ud.remote_qpn = qpn;
  wr.wr.ud.remote_qkey = key;
  EQUAL(post(r, &wr, NULL), 0);
  struct ibv_wc wc;
  EXPECT(completion(r->cq, &wc));
  EQUAL(wc.wr_id, 7);
  EQUAL(wc.status, IBV_WC_SUCCESS);
}

CHECK(datagrams_arrive_behind_forty_bytes, "a datagram of the right number, key and GID arrives behind 40 bytes; others are lost") {
  struct rig from = ud_open(0, 1), to = ud_open(4, KEY);
  union ibv_gid gid, nobody = {.raw = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1}};
  ipv4_gid(to.context, &gid);
  struct ibv_ah *ah = handle(&from, &gid), *elsewhere = handle(&from, &nobody);
  EXPECT(ah && elsewhere);
  receives(&to, 4);
  for (int i = 0; i < 100; i++) from.memory[MEMORY_BYTES / 2 + i] = i + 1;
  send_to(&from, ah, to.qp->qp_num + 1000, KEY, 100);
  send_to(&from, ah, to.qp->qp_num, KEY + 1, 100);
  send_to(&from, elsewhere, to.qp->qp_num, KEY, 100);
  send_to(&from, ah, to.qp->qp_num, KEY, 100);
  struct ibv_wc wc;
  EXPECT(completion(to.cq, &wc));
  EQUAL(wc.wr_id, 100);
  EQUAL(wc.opcode, IBV_WC_RECV);
  EQUAL(wc.byte_len, HEADER + 100);
  EQUAL(wc.src_qp, from.qp->qp_num);
  EXPECT(wc.wc_flags & IBV_WC_GRH);
  EXPECT(!memcmp(to.memory + HEADER, from.memory + MEMORY_BYTES / 2, 100));
  EQUAL(to.memory[20], 0x45);
  EXPECT(!memcmp(to.memory + 36, gid.raw + 12, 4));
  EQUAL(ibv_poll_cq(to.cq, 1, &wc), 0);
  EQUAL(ibv_destroy_ah(ah), 0);
  EQUAL(ibv_destroy_ah(elsewhere), 0);
  rig_close(&from);
  rig_close(&to);
}

CHECK(datagrams_above_the_mtu, "a datagram above the path MTU is dropped, and so is one for which there is no receive") {
  struct rig r = ud_open(1, KEY);
  union ibv_gid gid;
  ipv4_gid(r.context, &gid);
  struct ibv_ah *ah = handle(&r, &gid);
  struct ibv_port_attr port;
  struct ibv_wc wc;
  EQUAL(ibv_query_port(r.context, 1, &port), 0);
  receives(&r, 1);
  send_to(&r, ah, r.qp->qp_num, KEY, (128u << port.active_mtu) + 1);
  EQUAL(ibv_poll_cq(r.cq, 1, &wc), 0);
  struct rig deaf = ud_open(0, KEY);
  send_to(&r, ah, deaf.qp->qp_num, KEY, 10);
  EQUAL(ibv_destroy_ah(ah), 0);
  rig_close(&r);
  rig_close(&deaf);
}

CHECK(datagrams_larger_than_the_receive, "a datagram larger than the receive is an error of the receiving queue pair") {
  struct rig from = ud_open(0, 1), to = ud_open(2, KEY);
  union ibv_gid gid;
  ipv4_gid(to.context, &gid);
  struct ibv_ah *ah = handle(&from, &gid);
  receives(&to, 2);
  send_to(&from, ah, to.qp->qp_num, KEY, SLOT - HEADER + 1);
  struct ibv_wc wc;
  EXPECT(completion(to.cq, &wc));
  EQUAL(wc.status, IBV_WC_LOC_LEN_ERR);
  EXPECT(completion(to.cq, &wc));
  EQUAL(wc.status, IBV_WC_WR_FLUSH_ERR);
  EQUAL(state_of(to.qp), IBV_QPS_ERR);
  EQUAL(ibv_destroy_ah(ah), 0);
  rig_close(&from);
  rig_close(&to);
}

CHECK(address_handles, "an address handle needs a port, a GID of ours, and one of its kind; without one nothing is posted") {
  struct rig r = ud_open(0, KEY);
  union ibv_gid own, ipv6 = {.raw = {0xfd, [15] = 1}};
  int index = ipv4_gid(r.context, &own);
  const struct ibv_ah_attr good = {.is_global = 1, .port_num = 1, .grh = {.dgid = own, .sgid_index = index}};
  struct ibv_ah_attr bad[] = {good, good, good, good};
  bad[0].port_num = 2;
  bad[1].is_global = 0;
  bad[2].grh.sgid_index = 63;
  bad[3].grh.dgid = ipv6;
  for (int i = 0; i < 4; i++) {
    EXPECT(!ibv_create_ah(r.pd, &bad[i]));
    EQUAL(errno, EINVAL);
  }
  struct ibv_sge sge = {(uintptr_t)r.memory, 10, r.mr->lkey};
  struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND}, *refused;
  EQUAL(post(&r, &wr, &refused), EINVAL);
  EXPECT(refused == &wr);
  struct ibv_ah_attr attr = good;
  struct ibv_ah *ah = ibv_create_ah(r.pd, &attr);
  wr.wr.ud.ah = ah;
  wr.send_flags = IBV_SEND_IP_CSUM;
  EQUAL(post(&r, &wr, &refused), EINVAL);
  EQUAL(ibv_dealloc_pd(r.pd), EBUSY);
  EQUAL(ibv_destroy_ah(ah), 0);
  rig_close(&r);
}
