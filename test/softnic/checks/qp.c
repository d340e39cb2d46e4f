/* Queue pairs: what can be made, the states, the rate limit, the order of destroying; devices and their tables. */
#include "check.h"

#include <time.h>

CHECK(states_go_step_by_step, "RESET to INIT needs the port and nothing else; no step may be left out; ERR leaves only to RESET") {
  struct rig r = rig_open((struct options){.fresh = true});
  struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1};
  EQUAL(ibv_modify_qp(r.qp, &attr, IBV_QP_STATE), EINVAL);
  EQUAL(ibv_modify_qp(r.qp, &attr, IBV_QP_STATE | IBV_QP_PORT | IBV_QP_PKEY_INDEX), EINVAL);
  attr.port_num = 2;
  EQUAL(ibv_modify_qp(r.qp, &attr, IBV_QP_STATE | IBV_QP_PORT), EINVAL);
  EQUAL(to_state(r.qp, IBV_QPS_RTR), EINVAL);
  EQUAL(to_state(r.qp, IBV_QPS_RTS), EINVAL);
  EQUAL(state_of(r.qp), IBV_QPS_RESET);
  EQUAL(to_state(r.qp, IBV_QPS_INIT), 0);
  EQUAL(to_state(r.qp, IBV_QPS_RTS), EINVAL);
  attr = (struct ibv_qp_attr){.qp_state = IBV_QPS_RTR, .cur_qp_state = IBV_QPS_RTS};
  EQUAL(ibv_modify_qp(r.qp, &attr, IBV_QP_STATE | IBV_QP_CUR_STATE), EINVAL);
  EQUAL(to_state(r.qp, IBV_QPS_RTR), 0);
  EQUAL(to_state(r.qp, IBV_QPS_INIT), EINVAL);
  EQUAL(to_state(r.qp, IBV_QPS_RTS), 0);
  EQUAL(to_state(r.qp, IBV_QPS_RTR), EINVAL);
  EQUAL(to_state(r.qp, IBV_QPS_ERR), 0);
  EQUAL(to_state(r.qp, IBV_QPS_INIT), EINVAL);
  EQUAL(to_state(r.qp, IBV_QPS_RTS), EINVAL);
  EQUAL(to_state(r.qp, IBV_QPS_RESET), 0);
  to_rts(r.qp);
  EQUAL(r.qp->state, IBV_QPS_RTS);
  rig_close(&r);
}

CHECK(reset_forgets_everything,
      "RESET takes the queue pair's completions out of the CQ and empties the queue; it can be brought up again") {
  struct rig r = rig_open((struct options){.depth = 4});
  struct ibv_wc wc[8];
  for (int i = 0; i < 4; i++) EQUAL(post_one(&r, i, IBV_SEND_SIGNALED), 0);
  EQUAL(post_one(&r, 4, 0), ENOMEM);
  EQUAL(to_state(r.qp, IBV_QPS_ERR), 0);
  EQUAL(to_state(r.qp, IBV_QPS_RESET), 0);
  EQUAL(ibv_poll_cq(r.cq, 8, wc), 0);
  to_rts(r.qp);
  for (int i = 0; i < 4; i++) EQUAL(post_one(&r, 10 + i, i == 3 ? IBV_SEND_SIGNALED : 0), 0);
  EQUAL(completions(r.cq, 1, wc), 1);
  EQUAL(wc[0].wr_id, 13);
  EQUAL(wc[0].status, IBV_WC_SUCCESS);
  rig_close(&r);
}

CHECK(completions_leave_with_their_queue_pair, "destroying a queue pair takes its completions out of the CQ, and only its own") {
  struct rig r = rig_open((struct options){0});
  struct ibv_wc wc[8];
  struct ibv_qp_init_attr init = qp_init(&r, &(struct options){0});
  struct ibv_qp *first = r.qp, *second = ibv_create_qp(r.pd, &init);
  EXPECT(second && second->qp_num != first->qp_num);
  to_rts(second);
  EQUAL(post_one(&r, 1, IBV_SEND_SIGNALED), 0);
  r.qp = second;
  EQUAL(post_one(&r, 2, IBV_SEND_SIGNALED), 0);
  EQUAL(ibv_destroy_qp(first), 0);
  EQUAL(ibv_poll_cq(r.cq, 8, wc), 1);
  EQUAL(wc[0].wr_id, 2);
  EQUAL(wc[0].qp_num, second->qp_num);
  rig_close(&r);
}

static void refused(struct rig *r, struct options o, int wanted) {
  struct ibv_qp_init_attr init = qp_init(r, &o);
  errno = 0;
  EXPECT(!ibv_create_qp(r->pd, &init));
  EQUAL(errno, wanted);
}

static void granted(struct rig *r, struct options o) {
  struct ibv_qp_init_attr init = qp_init(r, &o);
  struct ibv_qp *qp = ibv_create_qp(r->pd, &init);
  EXPECT(qp);
  EQUAL(ibv_destroy_qp(qp), 0);
}

CHECK(queue_pairs_beyond_the_limits, "more WRs, SGEs or inline bytes than the device has are EINVAL") {
  faults("limit max_sge 4; limit max_qp_wr 64; limit max_inline 100");
  struct rig r = rig_open((struct options){0});
  struct ibv_device_attr attr;
  EQUAL(ibv_query_device(r.context, &attr), 0);
  EQUAL(attr.max_sge, 4);
  EQUAL(attr.max_qp_wr, 64);
  granted(&r, (struct options){.depth = 8, .sges = 4});
  refused(&r, (struct options){.depth = 8, .sges = 5}, EINVAL);
  granted(&r, (struct options){.depth = 64, .sges = 1});
  refused(&r, (struct options){.depth = 65, .sges = 1}, EINVAL);
  granted(&r, (struct options){.depth = 8, .inline_bytes = 100});
  refused(&r, (struct options){.depth = 8, .inline_bytes = 101}, EINVAL);
  rig_close(&r);
}

CHECK(a_ring_of_two_sges_has_half_the_depth,
      "max_qp_wr holds for one SGE a WR: with two to five, 128 bytes each, half of it is the most") {
  struct rig r = rig_open((struct options){0});
  granted(&r, (struct options){.depth = 32768, .sges = 1});
  granted(&r, (struct options){.depth = 16384, .sges = 2});
  granted(&r, (struct options){.depth = 16384, .sges = 5});
  refused(&r, (struct options){.depth = 16385, .sges = 2}, EINVAL);
  refused(&r, (struct options){.depth = 16384, .sges = 6}, EINVAL);
  rig_close(&r);
}

CHECK(other_kinds_of_queue_pair, "queue pairs that are neither raw packet nor datagram ones, and features that are not there, are EOPNOTSUPP") {
  struct rig r = rig_open((struct options){0});
  struct ibv_qp_init_attr init = qp_init(&r, &(struct options){0});
  init.qp_type = IBV_QPT_RC;
  EXPECT(!ibv_create_qp(r.pd, &init));
  EQUAL(errno, EOPNOTSUPP);
  struct ibv_qp_init_attr_ex ex = {.qp_type = IBV_QPT_RAW_PACKET,
                                   .comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_MAX_TSO_HEADER};
  errno = 0;
  EXPECT(!ibv_create_qp_ex(r.context, &ex));
  EQUAL(errno, EOPNOTSUPP);
  errno = 0;
  EXPECT(!ibv_alloc_td(r.context, &(struct ibv_td_init_attr){0}));
  EQUAL(errno, EOPNOTSUPP);
  rig_close(&r);
}

CHECK(what_is_in_use_cannot_be_destroyed,
      "EBUSY: a CQ with a queue pair, a domain with a region, a channel with a CQ, a queue pair with a rule") {
  struct rig r = rig_open((struct options){0});
  struct {
    struct ibv_flow_attr attr;
    struct ibv_flow_spec_eth eth;
  } rule = {.attr = {.size = sizeof rule, .num_of_specs = 1, .port = 1},
            .eth = {.type = IBV_FLOW_SPEC_ETH, .size = sizeof rule.eth}};
  struct ibv_flow *flow = ibv_create_flow(r.qp, &rule.attr);
  EXPECT(flow);
  EQUAL(ibv_destroy_qp(r.qp), EBUSY);
  EQUAL(ibv_destroy_flow(flow), 0);
  EQUAL(ibv_destroy_cq(r.cq), EBUSY);
  EQUAL(ibv_destroy_comp_channel(r.channel), EBUSY);
  EQUAL(ibv_dealloc_pd(r.pd), EBUSY);
  rig_close(&r);
}

static int limit_rate(struct ibv_qp *qp, uint32_t kbps, uint32_t burst) {
  struct ibv_qp_rate_limit_attr attr = {.rate_limit = kbps, .max_burst_sz = burst};
  return ibv_modify_qp_rate_limit(qp, &attr);
}

static uint32_t rate_of(struct ibv_qp *qp) {
  struct ibv_qp_attr attr;
  struct ibv_qp_init_attr init;
  EQUAL(ibv_query_qp(qp, &attr, IBV_QP_RATE_LIMIT, &init), 0);
  return attr.rate_limit;
}

CHECK(rate_limits, "a rate is set in RTS only, within packet_pacing_caps, without burst fields, and is lost on leaving RTS") {
  struct rig r = rig_open((struct options){.fresh = true});
  struct ibv_device_attr_ex attr;
  EQUAL(ibv_query_device_ex(r.context, NULL, &attr), 0);
  const struct ibv_packet_pacing_caps *caps = &attr.packet_pacing_caps;
  EXPECT(ibv_is_qpt_supported(caps->supported_qpts, IBV_QPT_RAW_PACKET) && caps->qp_rate_limit_max > caps->qp_rate_limit_min);
  EQUAL(limit_rate(r.qp, 5000, 0), EINVAL);
  to_rts(r.qp);
  EQUAL(limit_rate(r.qp, caps->qp_rate_limit_min - 1, 0), EINVAL);
  EQUAL(limit_rate(r.qp, caps->qp_rate_limit_max + 1, 0), EINVAL);
  EQUAL(limit_rate(r.qp, 5000, 1000), EINVAL);
  EQUAL(limit_rate(r.qp, 5000, 0), 0);
  EQUAL(rate_of(r.qp), 5000);
  EQUAL(to_state(r.qp, IBV_QPS_RESET), 0);
  EQUAL(rate_of(r.qp), 0);
  to_rts(r.qp);
  EQUAL(rate_of(r.qp), 0);
  struct ibv_qp_attr change = {.rate_limit = 7000};
  EQUAL(ibv_modify_qp(r.qp, &change, IBV_QP_RATE_LIMIT), 0);
  EQUAL(rate_of(r.qp), 7000);
  rig_close(&r);
}

CHECK(no_rate_limits_without_the_capability, "without pacing packet_pacing_caps are empty and setting a rate is EOPNOTSUPP") {
  faults("limit pacing 0");
  struct rig r = rig_open((struct options){0});
  struct ibv_device_attr_ex attr;
  EQUAL(ibv_query_device_ex(r.context, NULL, &attr), 0);
  EQUAL(attr.packet_pacing_caps.qp_rate_limit_max, 0);
  EQUAL(attr.packet_pacing_caps.supported_qpts, 0);
  EQUAL(limit_rate(r.qp, 5000, 0), EOPNOTSUPP);
  rig_close(&r);
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

CHECK(rate_limits_are_kept, "frames leave at the rate that was set: 40 frames of 1000 bytes at 1.6 Mb/s take 0.2 s") {
  struct rig r = rig_open((struct options){.depth = 64});
  struct chain c;
  struct ibv_wc wc;
  EQUAL(limit_rate(r.qp, 1600, 0), 0);
  chain_make(&c, &r, 40, 0);
  for (int i = 0; i < 40; i++) c.sge[i][0].length = 1000;
  c.wr[39].send_flags = IBV_SEND_SIGNALED;
  double start = seconds();
  EQUAL(post(&r, c.wr, NULL), 0);
  EXPECT(completion(r.cq, &wc));
  EXPECT(seconds() - start > 0.18);
  rig_close(&r);
}

CHECK(the_port_and_its_gids,
      "one Ethernet port; the GIDs are those of the netdev's addresses, RoCE v2; beyond them ENODATA, beyond the table EINVAL") {
  struct rig r = rig_open((struct options){0});
  struct ibv_port_attr port;
  struct ibv_gid_entry entries[64], entry;
  union ibv_gid gid;
  __be16 pkey;
  EQUAL(ibv_query_port(r.context, 2, &port), EINVAL);
  EQUAL(ibv_query_port(r.context, 1, &port), 0);
  EQUAL(port.link_layer, IBV_LINK_LAYER_ETHERNET);
  EQUAL(port.state, IBV_PORT_ACTIVE);
  ssize_t n = ibv_query_gid_table(r.context, entries, 64, 0);
  EXPECT(n >= 3);
  bool v4 = false, v6 = false;
  for (ssize_t i = 0; i < n; i++) {
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    EQUAL(entries[i].gid_type, IBV_GID_TYPE_ROCE_V2);
    EQUAL(entries[i].port_num, 1);
    EXPECT(entries[i].ndev_ifindex > 0);
    EQUAL(ibv_query_gid_ex(r.context, 1, i, &entry, 0), 0);
    EXPECT(!memcmp(&entry, &entries[i], sizeof entry));
    EQUAL(ibv_query_gid(r.context, 1, i, &gid), 0);
    EXPECT(!memcmp(&gid, &entry.gid, 16));
    if (!memcmp(gid.raw, prefix, 12)) v4 = true;
    else if (gid.raw[0] == 0xfd) v6 = true;
  }
  EXPECT(v4 && v6);
  EQUAL(ibv_query_gid_ex(r.context, 1, n, &entry, 0), ENODATA);
  EQUAL(ibv_query_gid_ex(r.context, 1, port.gid_tbl_len, &entry, 0), EINVAL);
  EQUAL(ibv_query_gid(r.context, 1, port.gid_tbl_len, &gid), -1);
  EQUAL(ibv_query_pkey(r.context, 1, 0, &pkey), 0);
  EQUAL(pkey, 0xffff);
  rig_close(&r);
}

CHECK(an_empty_list_of_devices, "SOFTNIC_NETDEVS= is a machine with the library and no device") {
  setenv("SOFTNIC_NETDEVS", "", 1);
  int n = -1;
  struct ibv_device **list = ibv_get_device_list(&n);
  EXPECT(list && !list[0]);
  EQUAL(n, 0);
  ibv_free_device_list(list);
}
