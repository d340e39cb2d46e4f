/*
 * Datagrams (UD): messages from one queue pair of the process to another, by memory alone, whatever the mode. The rules kept here:
 * - an address handle names the port, one of its GIDs and the other's, which must both be IPv4 addresses or both not (EINVAL);
 * - a message above the path MTU, a power of two up to 4096, is dropped although its WR succeeds (as soft-RoCE drops it);
 * - it goes to the queue pair of the number that it names, if that is in RTR or behind it, on a device that has the GID, and of the
 *   same key; a key with its highest bit set stands for the sender's own (IBTA 10.2.5); else it is lost, and its WR succeeds;
 * - 40 bytes are in front of it: a global route header, or for IPv4 addresses an IPv4 header in the last 20 of them (annex A17);
 * - without a receive it is lost; one that does not fit puts the receiving queue pair into ERR.
 */
#include <string.h>

#include "softnic.h"

enum { HEADER_BYTES = 40, MAX_DATAGRAM_BYTES = 4096, QKEY_OWN = 1 << 31 };

/* Behind a send queue's lock, in front of a receive queue's. */
static struct lock lock;
static struct qp *listeners;

struct ah {
  struct ibv_ah base;
  union ibv_gid from, to;
};

static bool is_ipv4(const union ibv_gid *gid) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  return !memcmp(gid->raw, mapped, sizeof mapped);
}

struct ibv_ah *ibv_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr) {
  struct ibv_gid_entry entries[GIDS];
  int n = gid_table(to_context(pd->context)->device, entries);
  int error = 0;
  if (dead(pd->context)) error = EIO;
  else if (attr->port_num != PORT || !attr->is_global || attr->grh.sgid_index >= n) error = EINVAL;
  else if (is_ipv4(&attr->grh.dgid) != is_ipv4(&entries[attr->grh.sgid_index].gid)) error = EINVAL;
  struct ah *ah = error ? NULL : calloc(1, sizeof *ah);
  if (!ah) {
    errno = error ? error : ENOMEM;
    return NULL;
  }
  ah->base.context = pd->context;
  ah->base.pd = pd;
  ah->from = entries[attr->grh.sgid_index].gid;
  ah->to = attr->grh.dgid;
  add(&((struct pd *)pd)->uses, 1);
  report_made(AHS);
  return &ah->base;
}

int ibv_destroy_ah(struct ibv_ah *base) {
  add(&((struct pd *)base->pd)->uses, -1);
  report_gone(AHS);
  return released(base->context, base);
}

int ud_target(struct qp *qp, uint64_t index, const struct ibv_send_wr *wr) {
  const struct ah *ah = (const struct ah *)wr->wr.ud.ah;
  if (!ah || ah->base.pd != qp->base.qp_base.pd) return EINVAL;
  uint32_t key = wr->wr.ud.remote_qkey & QKEY_OWN ? qp->qkey : wr->wr.ud.remote_qkey;
  qp->sq.targets[index & qp->sq.mask] = (struct target){ah->from, ah->to, wr->wr.ud.remote_qpn, key};
  return 0;
}

void ud_listen(struct qp *qp) {
  qp->gids = gid_table(qp->context->device, qp->gid);
  take(&lock);
  if (!qp->listening) {
    qp->listening = true;
    qp->next_listener = listeners;
    listeners = qp;
  }
  drop(&lock);
}

void ud_leave(struct qp *qp) {
  take(&lock);
  for (struct qp **at = &listeners; *at; at = &(*at)->next_listener)
    if (*at == qp) {
      *at = qp->next_listener;
      break;
    }
  drop(&lock);
}

static bool hears(const struct qp *qp, const struct target *target) {
  if (qp->base.qp_base.qp_num != target->qpn || qp->qkey != target->qkey) return false;
  for (int i = 0; i < qp->gids; i++)
    if (!memcmp(&qp->gid[i].gid, &target->to, sizeof target->to)) return true;
  return false;
}

static void write_header(uint8_t *header, const struct target *target, uint32_t bytes) {
  /* Bytes that the specification does not define are not zero. */
  memset(header, 0xa5, HEADER_BYTES);
  if (is_ipv4(&target->from)) {
    header[20] = 0x45;
    memcpy(header + 32, target->from.raw + 12, 4);
    memcpy(header + 36, target->to.raw + 12, 4);
  } else {
    header[0] = 0x60;
    header[4] = bytes >> 8;
    header[5] = bytes;
    memcpy(header + 8, target->from.raw, 16);
    memcpy(header + 24, target->to.raw, 16);
  }
}

void ud_deliver(struct qp *qp, uint64_t at, const struct ibv_sge *sges, uint32_t n, const uint8_t *inline_data, uint32_t bytes) {
  const struct target *target = &qp->sq.targets[at];
  uint8_t message[HEADER_BYTES + MAX_DATAGRAM_BYTES];
  if (bytes > path_mtu(load_relaxed(&qp->context->mtu))) {
    qp->stats.dropped_oversize++;
    return;
  }
  if (load_relaxed(&nic.hot) & HOT_PORT_DOWN) {
    qp->stats.dropped_port_down++;
    return;
  }
  qp->stats.frames++;
  write_header(message, target, bytes);
  if (inline_data) memcpy(message + HEADER_BYTES, inline_data, bytes);
  else gather(message + HEADER_BYTES, sges, n);
  take(&lock);
  struct qp *to = listeners;
  while (to && !hears(to, target)) to = to->next_listener;
  if (to) receive_message(to, message, HEADER_BYTES + bytes, qp->base.qp_base.qp_num);
  else report_unmatched();
  drop(&lock);
}
