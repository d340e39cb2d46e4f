/* Posting to the send queue. */
#include "check.h"

CHECK(unsignalled_wrs_never_free_their_slots, "a full send queue is ENOMEM, and polling an empty CQ frees nothing") {
  struct rig r = rig_open((struct options){.depth = 8});
  struct ibv_wc wc;
  for (int i = 0; i < 8; i++) EQUAL(post_one(&r, i, 0), 0);
  EQUAL(post_one(&r, 8, 0), ENOMEM);
  EQUAL(ibv_poll_cq(r.cq, 1, &wc), 0);
  EQUAL(post_one(&r, 9, IBV_SEND_SIGNALED), ENOMEM);
  rig_close(&r);
}

CHECK(slots_are_freed_by_polling_only,
      "a completion that lies unpolled in the CQ frees nothing; polled, it frees all up to its WR") {
  struct rig r = rig_open((struct options){.depth = 8});
  struct ibv_wc wc;
  for (int i = 0; i < 8; i++) EQUAL(post_one(&r, i, i == 4 ? IBV_SEND_SIGNALED : 0), 0);
  EQUAL(post_one(&r, 8, 0), ENOMEM);
  EXPECT(completion(r.cq, &wc));
  EQUAL(wc.wr_id, 4);
  EQUAL(wc.status, IBV_WC_SUCCESS);
  EQUAL(wc.qp_num, r.qp->qp_num);
  for (int i = 8; i < 13; i++) EQUAL(post_one(&r, i, 0), 0); /* WRs 0 to 4 are free again */
  EQUAL(post_one(&r, 13, 0), ENOMEM);
  rig_close(&r);
}

CHECK(the_depth_is_what_was_asked_for, "a depth that is no power of two holds so many WRs and not one more") {
  struct rig r = rig_open((struct options){.depth = 5});
  for (int i = 0; i < 5; i++) EQUAL(post_one(&r, i, 0), 0);
  EQUAL(post_one(&r, 5, 0), ENOMEM);
  rig_close(&r);
}

CHECK(wrs_before_the_bad_one_are_posted, "posting stops at the refused WR, names it in bad_wr, and those before it are sent") {
  struct rig r = rig_open((struct options){.depth = 8, .sges = 2});
  struct ibv_send_wr *bad = NULL;
  struct ibv_wc wc[4];
  struct chain c;
  chain_make(&c, &r, 5, 100);
  c.wr[1].send_flags = IBV_SEND_SIGNALED;
  c.wr[2].num_sge = 3;
  EQUAL(post(&r, c.wr, &bad), ENOMEM);
  EXPECT(bad == &c.wr[2]);
  EQUAL(completions(r.cq, 1, wc), 1);
  EQUAL(wc[0].wr_id, 101);
  EQUAL(wc[0].status, IBV_WC_SUCCESS);
  EQUAL(ibv_poll_cq(r.cq, 4, wc), 0); /* nothing behind it was posted */
  EQUAL(state_of(r.qp), IBV_QPS_RTS);
  for (int i = 0; i < 8; i++) EQUAL(post_one(&r, i, 0), 0);
  rig_close(&r);
}

CHECK(a_chain_that_overflows_is_cut,
      "a chain longer than the room left is posted up to it: ENOMEM, bad_wr behind the last that fitted") {
  struct rig r = rig_open((struct options){.depth = 8});
  struct ibv_send_wr *bad = NULL;
  struct ibv_wc wc;
  struct chain c;
  chain_make(&c, &r, 12, 0);
  c.wr[7].send_flags = IBV_SEND_SIGNALED;
  EQUAL(post(&r, c.wr, &bad), ENOMEM);
  EXPECT(bad == &c.wr[8]);
  EXPECT(completion(r.cq, &wc));
  EQUAL(wc.wr_id, 7);
  EQUAL(post(&r, bad, &bad), 0);
  rig_close(&r);
}

CHECK(more_sges_than_asked_for, "a WR with more SGEs than max_send_sge is ENOMEM") {
  struct rig r = rig_open((struct options){.sges = 2});
  struct chain c;
  chain_make(&c, &r, 1, 0);
  for (int i = 0; i < 3; i++) c.sge[0][i] = (struct ibv_sge){(uintptr_t)r.memory + 64 * i, 64, r.mr->lkey};
  c.wr[0].num_sge = 2;
  EQUAL(post(&r, c.wr, NULL), 0);
  c.wr[0].num_sge = 3;
  EQUAL(post(&r, c.wr, NULL), ENOMEM);
  c.wr[0].num_sge = -1;
  EQUAL(post(&r, c.wr, NULL), ENOMEM);
  rig_close(&r);
}

CHECK(opcodes_of_other_queue_pairs, "a raw packet queue pair takes SEND; any other opcode, and an unknown flag, is EINVAL") {
  struct rig r = rig_open((struct options){0});
  struct chain c;
  chain_make(&c, &r, 1, 0);
  const enum ibv_wr_opcode others[] = {IBV_WR_RDMA_WRITE, IBV_WR_SEND_WITH_IMM, IBV_WR_RDMA_READ, IBV_WR_TSO};
  for (unsigned i = 0; i < sizeof others / sizeof *others; i++) {
    c.wr[0].opcode = others[i];
    EQUAL(post(&r, c.wr, NULL), EINVAL);
  }
  c.wr[0].opcode = IBV_WR_SEND;
  c.wr[0].send_flags = 1 << 9;
  EQUAL(post(&r, c.wr, NULL), EINVAL);
  rig_close(&r);
}

CHECK(checksum_flag_with_the_capability, "IBV_SEND_IP_CSUM is taken where raw_packet_caps and device_cap_flags tell of it") {
  struct rig r = rig_open((struct options){0});
  struct ibv_device_attr_ex attr;
  EQUAL(ibv_query_device_ex(r.context, NULL, &attr), 0);
  EXPECT(attr.raw_packet_caps & IBV_RAW_PACKET_CAP_IP_CSUM);
  EXPECT(attr.orig_attr.device_cap_flags & IBV_DEVICE_RAW_IP_CSUM);
  EQUAL(post_one(&r, 0, IBV_SEND_IP_CSUM), 0);
  rig_close(&r);
}

CHECK(checksum_flag_without_the_capability, "IBV_SEND_IP_CSUM on a device without the capability is EINVAL") {
  faults("limit checksum 0");
  struct rig r = rig_open((struct options){0});
  struct ibv_device_attr_ex attr;
  EQUAL(ibv_query_device_ex(r.context, NULL, &attr), 0);
  EQUAL(attr.raw_packet_caps & IBV_RAW_PACKET_CAP_IP_CSUM, 0);
  EQUAL(attr.orig_attr.device_cap_flags & IBV_DEVICE_RAW_IP_CSUM, 0);
  EQUAL(post_one(&r, 0, 0), 0);
  EQUAL(post_one(&r, 1, IBV_SEND_IP_CSUM), EINVAL);
  rig_close(&r);
}

CHECK(posting_before_rts, "posting in RESET, INIT and RTR is EINVAL") {
  struct rig r = rig_open((struct options){.fresh = true});
  EQUAL(post_one(&r, 0, 0), EINVAL);
  EQUAL(to_state(r.qp, IBV_QPS_INIT), 0);
  EQUAL(post_one(&r, 0, 0), EINVAL);
  EQUAL(to_state(r.qp, IBV_QPS_RTR), 0);
  EQUAL(post_one(&r, 0, 0), EINVAL);
  EQUAL(to_state(r.qp, IBV_QPS_RTS), 0);
  EQUAL(post_one(&r, 0, 0), 0);
  rig_close(&r);
}

CHECK(posting_in_err_is_flushed, "posting in ERR is taken and completes with WR_FLUSH_ERR, unsignalled WRs too") {
  struct rig r = rig_open((struct options){0});
  struct ibv_wc wc[2];
  EQUAL(to_state(r.qp, IBV_QPS_ERR), 0);
  EQUAL(post_one(&r, 1, 0), 0);
  EQUAL(post_one(&r, 2, IBV_SEND_SIGNALED), 0);
  EQUAL(completions(r.cq, 2, wc), 2);
  for (int i = 0; i < 2; i++) {
    EQUAL(wc[i].wr_id, i + 1);
    EQUAL(wc[i].status, IBV_WC_WR_FLUSH_ERR);
    EQUAL(wc[i].qp_num, r.qp->qp_num);
  }
  rig_close(&r);
}

CHECK(inline_data, "inline data needs no region and may be reused at once; more than max_inline_data is ENOMEM") {
  setenv("SOFTNIC_MODE", "copy", 1);
  struct rig r = rig_open((struct options){.inline_bytes = 128});
  struct chain c;
  char *own = malloc(129);
  chain_make(&c, &r, 1, 0);
  memset(own, 1, 129);
  c.sge[0][0] = (struct ibv_sge){(uintptr_t)own, 128, 0xdead};
  c.wr[0].send_flags = IBV_SEND_INLINE | IBV_SEND_SIGNALED;
  EQUAL(post(&r, c.wr, NULL), 0);
  c.sge[0][0].length = 129;
  EQUAL(post(&r, c.wr, NULL), ENOMEM);
  free(own);
  struct ibv_wc wc;
  EXPECT(completion(r.cq, &wc));
  EQUAL(wc.status, IBV_WC_SUCCESS);
  rig_close(&r);
}

CHECK(inline_without_room, "inline data on a queue pair that was made with none is ENOMEM") {
  struct rig r = rig_open((struct options){0});
  EQUAL(post_one(&r, 0, IBV_SEND_INLINE), ENOMEM);
  rig_close(&r);
}

static void sig_all(void) {
  struct rig r = rig_open((struct options){.sig_all = true});
  struct ibv_wc wc[3];
  for (int i = 0; i < 3; i++) EQUAL(post_one(&r, i, 0), 0);
  EQUAL(completions(r.cq, 3, wc), 3);
  rig_close(&r);
}

CHECK(every_wr_signalled_by_sq_sig_all, "with sq_sig_all every WR completes, asked for or not") {
  sig_all();
}

CHECK(every_wr_signalled_where_frames_are_read, "the same in a mode that reads the frames") {
  setenv("SOFTNIC_MODE", "copy", 1);
  sig_all();
}

CHECK(an_error_flushes_receives_too, "when a send fails the queue pair is in ERR, and what was posted to receive is flushed") {
  struct rig r = rig_open((struct options){.receives = 2});
  struct ibv_wc wc[4];
  struct ibv_sge sge = {(uintptr_t)r.memory, 64, r.mr->lkey};
  struct ibv_recv_wr receive = {.wr_id = 50, .sg_list = &sge, .num_sge = 1}, *bad;
  struct chain c;
  EQUAL(ibv_post_recv(r.qp, &receive, &bad), 0);
  chain_make(&c, &r, 1, 1);
  c.sge[0][0].lkey++;
  EQUAL(post(&r, c.wr, NULL), 0);
  EQUAL(completions(r.cq, 2, wc), 2);
  EQUAL(wc[0].status, IBV_WC_LOC_PROT_ERR);
  EQUAL(wc[1].wr_id, 50);
  EQUAL(wc[1].status, IBV_WC_WR_FLUSH_ERR);
  rig_close(&r);
}

CHECK(frames_shorter_than_a_header, "a WR of less than an Ethernet header completes with LOC_LEN_ERR") {
  struct rig r = rig_open((struct options){0});
  struct chain c;
  struct ibv_wc wc;
  chain_make(&c, &r, 1, 5);
  c.sge[0][0].length = 14;
  EQUAL(post(&r, c.wr, NULL), 0);
  c.sge[0][0].length = 13;
  EQUAL(post(&r, c.wr, NULL), 0);
  EXPECT(completion(r.cq, &wc));
  EQUAL(wc.status, IBV_WC_LOC_LEN_ERR);
  EQUAL(state_of(r.qp), IBV_QPS_ERR);
  rig_close(&r);
}

static struct ibv_qp_ex *wr_api(struct rig *r, const struct options *options) {
  EQUAL(ibv_destroy_qp(r->qp), 0);
  struct ibv_qp_init_attr init = qp_init(r, options);
  struct ibv_qp_init_attr_ex ex = {0};
  memcpy(&ex, &init, sizeof init);
  ex.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  ex.pd = r->pd;
  ex.send_ops_flags = IBV_QP_EX_WITH_SEND;
  r->qp = ibv_create_qp_ex(r->context, &ex);
  EXPECT(r->qp);
  EXPECT(ibv_qp_to_qp_ex(r->qp));
  to_rts(r->qp);
  return ibv_qp_to_qp_ex(r->qp);
}

static void wr(struct ibv_qp_ex *qp, const struct rig *r, uint64_t id, unsigned flags, uint32_t lkey) {
  qp->wr_id = id;
  qp->wr_flags = flags;
  ibv_wr_send(qp);
  ibv_wr_set_sge(qp, lkey, (uintptr_t)r->memory, FRAME_BYTES);
}

CHECK(wr_calls_post_all_or_nothing,
      "ibv_wr_complete returns the first refusal and posts nothing then; ibv_wr_abort posts nothing") {
  const struct options o = {.depth = 4};
  struct rig r = rig_open(o);
  EXPECT(!ibv_qp_to_qp_ex(r.qp)); /* not asked for */
  struct ibv_qp_ex *qp = wr_api(&r, &o);
  struct ibv_wc wc[4];
  ibv_wr_start(qp);
  for (int i = 0; i < 5; i++) wr(qp, &r, i, IBV_SEND_SIGNALED, r.mr->lkey);
  EQUAL(ibv_wr_complete(qp), ENOMEM);
  ibv_wr_start(qp);
  wr(qp, &r, 10, IBV_SEND_SIGNALED, r.mr->lkey);
  ibv_wr_abort(qp);
  EQUAL(ibv_poll_cq(r.cq, 4, wc), 0);
  ibv_wr_start(qp);
  for (int i = 0; i < 4; i++) wr(qp, &r, 20 + i, i == 3 ? IBV_SEND_SIGNALED : 0, r.mr->lkey);
  EQUAL(ibv_wr_complete(qp), 0);
  EQUAL(completions(r.cq, 1, wc), 1);
  EQUAL(wc[0].wr_id, 23);
  ibv_wr_start(qp);
  wr(qp, &r, 30, 0, r.mr->lkey + 1);
  EQUAL(ibv_wr_complete(qp), 0);
  EQUAL(completions(r.cq, 1, wc), 1);
  EQUAL(wc[0].status, IBV_WC_LOC_PROT_ERR);
  EQUAL(wc[0].wr_id, 30);
  rig_close(&r);
}
