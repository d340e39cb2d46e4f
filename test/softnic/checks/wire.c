/*
 * Frames that leave and come in on a netdev. Device 0 and device 1 are the ends w0 and w1 of one veth pair, in one namespace; w1
 * has 10.88.0.2 and fd88::2.
 */
#define _GNU_SOURCE
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

enum { UDP_PORT = 7148 };

static void wire(void) {
  setenv("SOFTNIC_MODE", "wire", 1);
  setenv("SOFTNIC_NETDEVS", "w0,w1", 1);
}

struct rule {
  struct ibv_flow_attr attr;
  struct ibv_flow_spec_eth eth;
  struct ibv_flow_spec_ipv4 ip;
  struct ibv_flow_spec_tcp_udp udp;
};

/* UDP to a port of 10.88.0.2. */
static struct ibv_flow *steer(struct rig *r, uint16_t port, uint16_t priority) {
  struct rule rule = {
      .attr = {.size = sizeof rule, .priority = priority, .num_of_specs = 3, .port = 1},
      .eth = {.type = IBV_FLOW_SPEC_ETH, .size = sizeof rule.eth},
      .ip = {.type = IBV_FLOW_SPEC_IPV4, .size = sizeof rule.ip, .mask = {.dst_ip = UINT32_MAX}},
      .udp = {.type = IBV_FLOW_SPEC_UDP, .size = sizeof rule.udp, .val = {.dst_port = htons(port)}, .mask = {.dst_port = 0xffff}},
  };
  rule.ip.val.dst_ip = inet_addr("10.88.0.2");
  mac_of(r->context, rule.eth.val.dst_mac);
  memset(rule.eth.mask.dst_mac, 0xff, 6);
  struct ibv_flow *flow = ibv_create_flow(r->qp, &rule.attr);
  EXPECT(flow);
  return flow;
}

static void receive(struct rig *r, uint64_t id, uint32_t length) {
  struct ibv_sge sge = {(uintptr_t)r->memory + id * 2048, length, r->mr->lkey};
  struct ibv_recv_wr wr = {.wr_id = id, .sg_list = &sge, .num_sge = 1}, *bad;
  EQUAL(ibv_post_recv(r->qp, &wr, &bad), 0);
}

/* From device 0 to device 1. Returns the frame's length. */
static int send_udp(struct rig *from, struct rig *to, int version, uint16_t port, unsigned flags) {
  struct chain c;
  struct ibv_wc wc;
  char payload[301];
  memset(payload, 'x', sizeof payload);
  const char *sender = version == 4 ? "10.88.0.77" : "fd88::77", *target = version == 4 ? "10.88.0.2" : "fd88::2";
  int length = udp_frame(from->memory, version, sender, target, port, payload, sizeof payload);
  mac_of(to->context, from->memory);
  mac_of(from->context, from->memory + 6);
  chain_make(&c, from, 1, port);
  /* Headers and payload apart, as real senders have them. */
  c.sge[0][0].length = 42;
  c.sge[0][1] = (struct ibv_sge){(uintptr_t)from->memory + 42, length - 42, from->mr->lkey};
  c.wr[0].num_sge = 2;
  c.wr[0].send_flags = IBV_SEND_SIGNALED | flags;
  EQUAL(post(from, c.wr, NULL), 0);
  EXPECT(completion(from->cq, &wc));
  EQUAL(wc.status, IBV_WC_SUCCESS);
  return length;
}

CHECK(frames_arrive_where_a_rule_sends_them, "a frame goes to the queue pair whose rule matches, byte for byte, and to no other") {
  wire();
  struct rig out = rig_open((struct options){.device = 0}), in = rig_open((struct options){.device = 1, .receives = 4});
  struct ibv_wc wc;
  struct ibv_flow *flow = steer(&in, UDP_PORT, 0);
  receive(&in, 3, 2048);
  send_udp(&out, &in, 4, UDP_PORT + 1, 0); /* matches no rule */
  int length = send_udp(&out, &in, 4, UDP_PORT, IBV_SEND_IP_CSUM);
  EXPECT(completion(in.cq, &wc));
  EQUAL(wc.status, IBV_WC_SUCCESS);
  EQUAL(wc.opcode, IBV_WC_RECV);
  EQUAL(wc.wr_id, 3);
  EQUAL(wc.byte_len, length);
  EXPECT(wc.wc_flags & IBV_WC_IP_CSUM_OK);
  const uint8_t *got = in.memory + 3 * 2048;
  EXPECT(!memcmp(got, out.memory, 24) && !memcmp(got + 26, out.memory + 26, 14) && !memcmp(got + 42, out.memory + 42, length - 42));
  EXPECT(got[24] | got[25]);      /* IPv4 header checksum filled */
  EXPECT(got[40] | got[41]);      /* UDP checksum too, as on mlx5 */
  EXPECT(!out.memory[24] && !out.memory[40]); /* in the frame, not in the program's memory */
  EQUAL(ibv_poll_cq(in.cq, 1, &wc), 0);
  EQUAL(ibv_destroy_flow(flow), 0);
  rig_close(&in);
  rig_close(&out);
}

CHECK(without_the_flag_no_byte_is_changed,
      "without IBV_SEND_IP_CSUM checksums stay as they are, and the receiver does not call them good") {
  wire();
  struct rig out = rig_open((struct options){.device = 0}), in = rig_open((struct options){.device = 1, .receives = 4});
  struct ibv_wc wc;
  struct ibv_flow *flow = steer(&in, UDP_PORT, 0);
  receive(&in, 0, 2048);
  int length = send_udp(&out, &in, 4, UDP_PORT, 0);
  EXPECT(completion(in.cq, &wc));
  EQUAL(wc.byte_len, length);
  EQUAL(wc.wc_flags & IBV_WC_IP_CSUM_OK, 0);
  EXPECT(!memcmp(in.memory, out.memory, length));
  EQUAL(ibv_destroy_flow(flow), 0);
  rig_close(&in);
  rig_close(&out);
}

CHECK(a_wrong_udp_checksum, "a UDP checksum that is wrong below a good IPv4 header is not called good") {
  wire();
  struct rig out = rig_open((struct options){.device = 0}), in = rig_open((struct options){.device = 1, .receives = 4});
  struct ibv_wc wc;
  struct chain c;
  struct ibv_flow *flow = steer(&in, UDP_PORT, 0);
  for (int i = 0; i < 3; i++) receive(&in, i, 2048);
  int length = send_udp(&out, &in, 4, UDP_PORT, IBV_SEND_IP_CSUM);
  EXPECT(completion(in.cq, &wc));
  EXPECT(wc.wc_flags & IBV_WC_IP_CSUM_OK);
  memcpy(out.memory, in.memory, length); /* with the NIC's checksums */
  for (int i = 0; i < 2; i++) {
    chain_make(&c, &out, 1, 0);
    c.sge[0][0].length = length;
    c.wr[0].send_flags = IBV_SEND_SIGNALED;
    EQUAL(post(&out, c.wr, NULL), 0);
    EXPECT(completion(out.cq, &wc) && completion(in.cq, &wc));
    EQUAL(wc.wc_flags & IBV_WC_IP_CSUM_OK, i == 0 ? IBV_WC_IP_CSUM_OK : 0);
    out.memory[100] ^= 1;
  }
  EQUAL(ibv_destroy_flow(flow), 0);
  rig_close(&in);
  rig_close(&out);
}

CHECK(two_rules_of_one_queue_pair, "a queue pair with two rules that match gets a frame once") {
  wire();
  struct rig out = rig_open((struct options){.device = 0}), in = rig_open((struct options){.device = 1, .receives = 4});
  struct ibv_wc wc[2];
  struct ibv_flow *one = steer(&in, UDP_PORT, 0), *two = steer(&in, UDP_PORT, 0);
  for (int i = 0; i < 3; i++) receive(&in, i, 2048);
  for (int i = 0; i < 2; i++) send_udp(&out, &in, 4, UDP_PORT, i ? IBV_SEND_IP_CSUM : 0);
  EQUAL(completions(in.cq, 2, wc), 2);
  EXPECT(!(wc[0].wc_flags & IBV_WC_IP_CSUM_OK) && wc[1].wc_flags & IBV_WC_IP_CSUM_OK);
  EQUAL(ibv_destroy_flow(one), 0);
  EQUAL(ibv_destroy_flow(two), 0);
  rig_close(&in);
  rig_close(&out);
}

static int udp_socket(int family) {
  int s = socket(family, SOCK_DGRAM, 0);
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(UDP_PORT)};
  struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(UDP_PORT), .sin_addr.s_addr = inet_addr("10.88.0.2")};
  inet_pton(AF_INET6, "fd88::2", &v6.sin6_addr);
  EQUAL(family == AF_INET ? bind(s, (void *)&v4, sizeof v4) : bind(s, (void *)&v6, sizeof v6), 0);
  return s;
}

CHECK(the_kernel_accepts_offloaded_checksums,
      "a kernel UDP socket gets frames with IBV_SEND_IP_CSUM, IPv4 and IPv6, and not those whose checksums are 0") {
  wire();
  struct rig out = rig_open((struct options){.device = 0}), in = rig_open((struct options){.device = 1});
  for (int version = 4; version <= 6; version += 2) {
    int s = udp_socket(version == 4 ? AF_INET : AF_INET6);
    char payload[512];
    send_udp(&out, &in, version, UDP_PORT, 0);
    EXPECT(!readable(s, 50)); /* no IPv4 header checksum, no UDP checksum over IPv6 */
    send_udp(&out, &in, version, UDP_PORT, IBV_SEND_IP_CSUM);
    EXPECT(readable(s, 2000));
    EQUAL(recv(s, payload, sizeof payload, 0), 301);
    close(s);
  }
  rig_close(&in);
  rig_close(&out);
}

CHECK(nothing_passes_a_port_that_is_down, "while the port is down a send succeeds and its frame is lost, and nothing comes in") {
  wire();
  control_open();
  struct rig out = rig_open((struct options){.device = 0}), in = rig_open((struct options){.device = 1, .receives = 4});
  struct ibv_wc wc;
  struct ibv_flow *flow = steer(&in, UDP_PORT, 0);
  int s = udp_socket(AF_INET);
  receive(&in, 1, 2048);
  control("port down");
  send_udp(&out, &in, 4, UDP_PORT, IBV_SEND_IP_CSUM);
  EXPECT(!readable(s, 50));
  control("port up");
  send_udp(&out, &in, 4, UDP_PORT, IBV_SEND_IP_CSUM);
  EXPECT(readable(s, 2000));
  EXPECT(completion(in.cq, &wc));
  close(s);
  EQUAL(ibv_destroy_flow(flow), 0);
  rig_close(&in);
  rig_close(&out);
}

CHECK(the_lowest_priority_number_wins,
      "of two rules that match, the one of the lower priority number gets the frame; equal ones both do") {
  wire();
  struct rig out = rig_open((struct options){.device = 0}), in = rig_open((struct options){.device = 1, .receives = 4});
  struct ibv_qp_init_attr init = qp_init(&in, &(struct options){.receives = 4});
  struct rig second = in;
  struct ibv_wc wc[4];
  second.qp = ibv_create_qp(in.pd, &init);
  EXPECT(second.qp);
  to_rts(second.qp);
  for (int i = 0; i < 2; i++) receive(&in, i, 2048), receive(&second, 10 + i, 2048);
  struct ibv_flow *low = steer(&second, UDP_PORT, 5), *high = steer(&in, UDP_PORT, 2);
  send_udp(&out, &in, 4, UDP_PORT, 0);
  EQUAL(completions(in.cq, 1, wc), 1);
  EQUAL(wc[0].qp_num, in.qp->qp_num);
  EQUAL(ibv_destroy_flow(low), 0);
  low = steer(&second, UDP_PORT, 2);
  send_udp(&out, &in, 4, UDP_PORT, 0);
  EQUAL(completions(in.cq, 2, wc), 2);
  EXPECT(wc[0].qp_num != wc[1].qp_num);
  EQUAL(ibv_poll_cq(in.cq, 1, wc), 0);
  EQUAL(ibv_destroy_flow(low), 0);
  EQUAL(ibv_destroy_flow(high), 0);
  EQUAL(ibv_destroy_qp(second.qp), 0);
  rig_close(&in);
  rig_close(&out);
}

CHECK(a_buffer_that_is_too_short,
      "a frame that does not fit its receive WR is LOC_LEN_ERR; the queue pair is in ERR and the others are flushed") {
  wire();
  struct rig out = rig_open((struct options){.device = 0}), in = rig_open((struct options){.device = 1, .receives = 4});
  struct ibv_wc wc[4];
  struct ibv_flow *flow = steer(&in, UDP_PORT, 0);
  receive(&in, 1, 342); /* one byte short */
  receive(&in, 2, 2048);
  EQUAL(send_udp(&out, &in, 4, UDP_PORT, 0), 343);
  EQUAL(completions(in.cq, 2, wc), 2);
  EQUAL(wc[0].wr_id, 1);
  EQUAL(wc[0].status, IBV_WC_LOC_LEN_ERR);
  EQUAL(wc[1].wr_id, 2);
  EQUAL(wc[1].status, IBV_WC_WR_FLUSH_ERR);
  EQUAL(state_of(in.qp), IBV_QPS_ERR);
  EQUAL(ibv_destroy_flow(flow), 0);
  rig_close(&in);
  rig_close(&out);
}

CHECK(receiving_needs_local_write, "a receive WR into a region without IBV_ACCESS_LOCAL_WRITE is LOC_PROT_ERR") {
  wire();
  struct rig out = rig_open((struct options){.device = 0}), in = rig_open((struct options){.device = 1, .receives = 4});
  struct ibv_wc wc;
  struct ibv_mr *mr = in.mr, *read_only = ibv_reg_mr(in.pd, in.memory, MEMORY_BYTES, 0);
  EXPECT(read_only);
  struct ibv_flow *flow = steer(&in, UDP_PORT, 0);
  in.mr = read_only;
  receive(&in, 1, 2048);
  in.mr = mr;
  send_udp(&out, &in, 4, UDP_PORT, 0);
  EXPECT(completion(in.cq, &wc));
  EQUAL(wc.status, IBV_WC_LOC_PROT_ERR);
  EQUAL(ibv_destroy_flow(flow), 0);
  EQUAL(ibv_dereg_mr(read_only), 0);
  rig_close(&in);
  rig_close(&out);
}

CHECK(receive_queues,
      "a full receive queue is ENOMEM and freed by polling; posting in RESET or with too many SGEs is EINVAL; in ERR it is flushed") {
  wire();
  struct rig out = rig_open((struct options){.device = 0});
  struct rig in = rig_open((struct options){.device = 1, .receives = 2, .fresh = true});
  struct ibv_wc wc[4];
  struct ibv_sge sges[2] = {{(uintptr_t)in.memory, 2048, in.mr->lkey}};
  struct ibv_recv_wr wr = {.wr_id = 9, .sg_list = sges, .num_sge = 1}, *bad = NULL;
  EQUAL(ibv_post_recv(in.qp, &wr, &bad), EINVAL);
  EXPECT(bad == &wr);
  to_rts(in.qp);
  wr.num_sge = 2;
  EQUAL(ibv_post_recv(in.qp, &wr, &bad), EINVAL);
  wr.num_sge = 1;
  for (int i = 0; i < 2; i++) EQUAL(ibv_post_recv(in.qp, &wr, &bad), 0);
  EQUAL(ibv_post_recv(in.qp, &wr, &bad), ENOMEM);
  struct ibv_flow *flow = steer(&in, UDP_PORT, 0);
  send_udp(&out, &in, 4, UDP_PORT, 0);
  usleep(100000);
  EQUAL(ibv_post_recv(in.qp, &wr, &bad), ENOMEM);
  EXPECT(completion(in.cq, wc));
  EQUAL(ibv_post_recv(in.qp, &wr, &bad), 0);
  EQUAL(to_state(in.qp, IBV_QPS_ERR), 0);
  EQUAL(completions(in.cq, 2, wc), 2);
  EQUAL(ibv_post_recv(in.qp, &wr, &bad), 0);
  EXPECT(completion(in.cq, wc));
  EQUAL(wc[0].status, IBV_WC_WR_FLUSH_ERR);
  EQUAL(ibv_destroy_flow(flow), 0);
  rig_close(&in);
  rig_close(&out);
}

CHECK(flow_rules_that_are_refused, "a rule for another port is EINVAL, one with an action that is not there EOPNOTSUPP") {
  wire();
  struct rig r = rig_open((struct options){0});
  struct {
    struct ibv_flow_attr attr;
    struct ibv_flow_spec_action_drop drop;
  } rule = {.attr = {.size = sizeof rule, .num_of_specs = 0, .port = 2},
            .drop = {.type = IBV_FLOW_SPEC_ACTION_DROP, .size = sizeof rule.drop}};
  errno = 0;
  EXPECT(!ibv_create_flow(r.qp, &rule.attr));
  EQUAL(errno, EINVAL);
  rule.attr.port = 1;
  rule.attr.num_of_specs = 1;
  EXPECT(!ibv_create_flow(r.qp, &rule.attr));
  EQUAL(errno, EOPNOTSUPP);
  rig_close(&r);
}

/* Run with SOFTNIC_REPORT; test/softnic/checks.test.ts reads it. */
CHECK(frames_above_the_mtu, "a frame larger than the MTU succeeds and is dropped") {
  wire();
  struct rig out = rig_open((struct options){.device = 0}), in = rig_open((struct options){.device = 1, .receives = 2});
  struct chain c;
  struct ibv_wc wc;
  struct ibv_flow_attr everything = {.type = IBV_FLOW_ATTR_SNIFFER, .size = sizeof everything, .port = 1};
  struct ibv_flow *flow = ibv_create_flow(in.qp, &everything);
  EXPECT(flow);
  chain_make(&c, &out, 1, 1);
  c.sge[0][0].length = 1500 + 14 + 5;
  c.wr[0].send_flags = IBV_SEND_SIGNALED;
  EQUAL(post(&out, c.wr, NULL), 0);
  EXPECT(completion(out.cq, &wc));
  EQUAL(wc.status, IBV_WC_SUCCESS);
  EQUAL(ibv_destroy_flow(flow), 0);
  rig_close(&in);
  rig_close(&out);
}
