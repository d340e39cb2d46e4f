/*
 * Flow steering (ibv_create_flow(3)). Rules kept here: a rule names the port and its specs, a field matches where (frame & mask) ==
 * (value & mask), an IP or UDP spec also asks for its protocol; of the rules that match, those of the lowest priority number get
 * the frame, the default rules get frames that no other rule took, and the sniffer gets all; rules need CAP_NET_RAW, a raw packet
 * queue pair, and are EOPNOTSUPP where the NIC cannot do what they ask. One queue pair gets a frame once.
 */
#include <arpa/inet.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

#include "flow.h"

enum { IPV4 = 0x0800, IPV6 = 0x86dd, TCP = 6, UDP = 17 };

static bool match(const void *field, const void *value, const void *mask, size_t n) {
  const uint8_t *f = field, *v = value, *m = mask;
  for (size_t i = 0; i < n; i++)
    if ((f[i] ^ v[i]) & m[i]) return false;
  return true;
}

static bool match_eth(const struct ibv_flow_spec_eth *s, const struct frame *f) {
  struct ibv_flow_eth_filter is = {.ether_type = htons(f->ether_type), .vlan_tag = htons(f->vlan_tci)};
  memcpy(is.dst_mac, f->bytes, 6);
  memcpy(is.src_mac, f->bytes + 6, 6);
  return match(&is, &s->val, &s->mask, sizeof is);
}

static bool match_ipv4(const struct ibv_flow_spec_ipv4 *s, const struct frame *f) {
  return f->version == 4 && match(f->bytes + f->l3 + 12, &s->val, &s->mask, sizeof s->val);
}

static bool match_ipv4_ext(const struct ibv_flow_spec_ipv4_ext *s, const struct frame *f) {
  if (f->version != 4) return false;
  const uint8_t *ip = f->bytes + f->l3;
  struct ibv_flow_ipv4_ext_filter is = {.proto = ip[9], .tos = ip[1], .ttl = ip[8], .flags = ip[6] >> 5};
  memcpy(&is.src_ip, ip + 12, 4);
  memcpy(&is.dst_ip, ip + 16, 4);
  return match(&is, &s->val, &s->mask, sizeof is);
}

static bool match_ipv6(const struct ibv_flow_spec_ipv6 *s, const struct frame *f) {
  if (f->version != 6) return false;
  const uint8_t *ip = f->bytes + f->l3;
  struct ibv_flow_ipv6_filter is;
  memset(&is, 0, sizeof is);
  memcpy(is.src_ip, ip + 8, 16);
  memcpy(is.dst_ip, ip + 24, 16);
  is.flow_label = htonl((ip[1] & 15) << 16 | ip[2] << 8 | ip[3]);
  is.next_hdr = ip[6];
  is.traffic_class = (ip[0] << 4 | ip[1] >> 4) & 0xff;
  is.hop_limit = ip[7];
  return match(&is, &s->val, &s->mask, offsetof(struct ibv_flow_ipv6_filter, hop_limit) + 1);
}

static bool match_ports(const struct ibv_flow_spec_tcp_udp *s, const struct frame *f) {
  if (!f->l4 || f->protocol != (s->type == IBV_FLOW_SPEC_UDP ? UDP : TCP)) return false;
  struct ibv_flow_tcp_udp_filter is;
  memcpy(&is.src_port, f->bytes + f->l4, 2);
  memcpy(&is.dst_port, f->bytes + f->l4 + 2, 2);
  return match(&is, &s->val, &s->mask, sizeof is);
}

static bool match_spec(const struct ibv_flow_spec *s, const struct frame *f) {
  switch (s->hdr.type) {
    case IBV_FLOW_SPEC_ETH: return match_eth(&s->eth, f);
    case IBV_FLOW_SPEC_IPV4: return match_ipv4(&s->ipv4, f);
    case IBV_FLOW_SPEC_IPV4_EXT: return match_ipv4_ext(&s->ipv4_ext, f);
    case IBV_FLOW_SPEC_IPV6: return match_ipv6(&s->ipv6, f);
    case IBV_FLOW_SPEC_TCP:
    case IBV_FLOW_SPEC_UDP: return match_ports(&s->tcp_udp, f);
    default: return true; /* a tag is no condition */
  }
}

static bool matches(const struct flow *flow, const struct frame *f) {
  switch (flow->type) {
    case IBV_FLOW_ATTR_ALL_DEFAULT:
    case IBV_FLOW_ATTR_SNIFFER: return true;
    case IBV_FLOW_ATTR_MC_DEFAULT: return f->bytes[0] & 1;
    default: break;
  }
  for (int i = 0; i < flow->specs; i++)
    if (!match_spec(&flow->spec[i], f)) return false;
  return true;
}

/* The lowest rank gets a frame: ordinary rules by priority, then default rules. */
static uint32_t rank(const struct flow *flow) {
  switch (flow->type) {
    case IBV_FLOW_ATTR_NORMAL: return flow->priority;
    case IBV_FLOW_ATTR_MC_DEFAULT: return 1 << 16;
    default: return 1 << 17;
  }
}

static bool had_it(const struct flow *flows, const struct flow *until, uint32_t best) {
  for (const struct flow *f = flows; f != until; f = f->next)
    if (f->qp == until->qp && f->matched && (f->type == IBV_FLOW_ATTR_SNIFFER || rank(f) == best)) return true;
  return false;
}

void flow_deliver(struct context *context, const struct frame *frame, bool checksums_good) {
  uint32_t best = UINT32_MAX;
  bool taken = false;
  pthread_mutex_lock(&context->flow_mutex);
  for (struct flow *f = context->flows; f; f = f->next) {
    f->matched = matches(f, frame);
    if (f->matched && f->type != IBV_FLOW_ATTR_SNIFFER && rank(f) < best) best = rank(f);
  }
  for (struct flow *f = context->flows; f; f = f->next) {
    if (!f->matched || (f->type != IBV_FLOW_ATTR_SNIFFER && rank(f) != best) || had_it(context->flows, f, best)) continue;
    receive_frame(f->qp, frame->bytes, frame->length, checksums_good, f->tag);
    taken = true;
  }
  pthread_mutex_unlock(&context->flow_mutex);
  if (!taken) report_unmatched();
}

static size_t spec_size(uint32_t type) {
  switch (type) {
    case IBV_FLOW_SPEC_ETH: return sizeof(struct ibv_flow_spec_eth);
    case IBV_FLOW_SPEC_IPV4: return sizeof(struct ibv_flow_spec_ipv4);
    case IBV_FLOW_SPEC_IPV4_EXT: return sizeof(struct ibv_flow_spec_ipv4_ext);
    case IBV_FLOW_SPEC_IPV6: return sizeof(struct ibv_flow_spec_ipv6);
    case IBV_FLOW_SPEC_TCP:
    case IBV_FLOW_SPEC_UDP: return sizeof(struct ibv_flow_spec_tcp_udp);
    case IBV_FLOW_SPEC_ACTION_TAG: return sizeof(struct ibv_flow_spec_action_tag);
    default: return 0;
  }
}

static int read_specs(struct flow *flow, const struct ibv_flow_attr *attr) {
  const uint8_t *at = (const uint8_t *)(attr + 1);
  if (attr->num_of_specs > MAX_SPECS) return EINVAL;
  for (int i = 0; i < attr->num_of_specs; i++) {
    struct {
      uint32_t type;
      uint16_t size;
    } head;
    memcpy(&head, at, sizeof head);
    size_t size = spec_size(head.type);
    if (!size) return EOPNOTSUPP;
    if (head.size != size) return EINVAL;
    memcpy(&flow->spec[i], at, size);
    if (head.type == IBV_FLOW_SPEC_ACTION_TAG) flow->tag = flow->spec[i].flow_tag.tag_id;
    at += size;
  }
  flow->specs = attr->num_of_specs;
  return 0;
}

static int refusal(const struct ibv_qp *qp, const struct ibv_flow_attr *attr) {
  if (dead(qp->context)) return EIO;
  if (nic.limits.cap_net_raw && !capable(CAP_NET_RAW)) return EPERM;
  if (attr->port != PORT || attr->comp_mask || attr->type > IBV_FLOW_ATTR_SNIFFER) return EINVAL;
  return attr->flags & ~IBV_FLOW_ATTR_FLAGS_DONT_TRAP ? EOPNOTSUPP : 0;
}

struct ibv_flow *flow_create(struct ibv_qp *base, struct ibv_flow_attr *attr) {
  struct qp *qp = to_qp(base);
  struct context *context = qp->context;
  static uint32_t handle;
  int error = refusal(base, attr);
  struct flow *flow = error ? NULL : calloc(1, sizeof *flow);
  if (flow) error = read_specs(flow, attr);
  else if (!error) error = ENOMEM;
  if (!error) error = receiver_start(context);
  if (error) {
    free(flow);
    errno = error;
    return NULL;
  }
  flow->base.context = base->context;
  flow->base.handle = add(&handle, 1);
  flow->qp = qp;
  flow->type = attr->type;
  flow->priority = attr->priority;
  add(&qp->flows, 1);
  pthread_mutex_lock(&context->flow_mutex);
  flow->next = context->flows;
  context->flows = flow;
  pthread_mutex_unlock(&context->flow_mutex);
  report_made(FLOWS);
  return &flow->base;
}

int flow_destroy(struct ibv_flow *base) {
  struct flow *flow = (struct flow *)base;
  struct context *context = to_context(base->context);
  bool found = false;
  pthread_mutex_lock(&context->flow_mutex);
  for (struct flow **at = &context->flows; *at; at = &(*at)->next) {
    if (*at != flow) continue;
    *at = flow->next;
    found = true;
    break;
  }
  pthread_mutex_unlock(&context->flow_mutex);
  if (found) {
    add(&flow->qp->flows, -1);
    report_gone(FLOWS);
  }
  return released(base->context, flow);
}
