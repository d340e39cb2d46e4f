/*
 * Frames that come in on the netdev, in wire mode: one thread per context, from its first flow rule on, reads a packet socket and
 * hands each frame to the rules. Rules kept here: a frame is what was on the wire, so a VLAN tag that the kernel took out is put
 * back and a checksum that it left to the hardware is filled; IBV_WC_IP_CSUM_OK is told only of checksums that are right; frames
 * above the MTU (the kernel's unsegmented packets, seen on a veth without gso_max_segs 1) are dropped and counted, as no wire could
 * carry them. Unlike a NIC's, these rules do not take frames away from the kernel.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "flow.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum { BURST = 32, TAG_BYTES = 4 };

struct receiver {
  struct context *context;
  pthread_t thread;
  int socket;
  int stop;
  struct mmsghdr messages[BURST];
  struct iovec vectors[BURST];
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
  } control[BURST];
  uint8_t buffers[BURST][TAG_BYTES + MAX_FRAME_BYTES];
};

static const struct tpacket_auxdata *auxdata(struct msghdr *message) {
  struct cmsghdr *c = CMSG_FIRSTHDR(message);
  return c && c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA ? (void *)CMSG_DATA(c) : NULL;
}

static void frame_in(struct receiver *r, int i) {
  uint8_t *bytes = r->buffers[i] + TAG_BYTES;
  uint32_t length = r->messages[i].msg_len;
  const struct tpacket_auxdata *aux = auxdata(&r->messages[i].msg_hdr);
  struct frame frame;
  if (aux && aux->tp_status & TP_STATUS_VLAN_VALID && length >= ETHERNET_BYTES) {
    uint16_t tpid = aux->tp_status & TP_STATUS_VLAN_TPID_VALID ? aux->tp_vlan_tpid : ETH_P_8021Q;
    uint16_t tag[2] = {htons(tpid), htons(aux->tp_vlan_tci)};
    bytes -= TAG_BYTES;
    length += TAG_BYTES;
    memmove(bytes, bytes + TAG_BYTES, 12);
    memcpy(bytes + 12, tag, sizeof tag);
  }
  if (length < ETHERNET_BYTES) return;
  if (length > load_relaxed(&r->context->mtu) + ETHERNET_BYTES + TAG_BYTES) {
    report_oversize_in();
    return;
  }
  frame_parse(&frame, bytes, length);
  if (aux && aux->tp_status & TP_STATUS_CSUMNOTREADY) frame_fill_l4_checksum(bytes, &frame);
  if (!(load_relaxed(&nic.hot) & HOT_PORT_DOWN)) flow_deliver(r->context, &frame, frame_checksums_good(&frame));
}

static void *run(void *argument) {
  struct receiver *r = argument;
  struct pollfd fds[2] = {{.fd = r->socket, .events = POLLIN}, {.fd = r->stop, .events = POLLIN}};
  for (;;) {
    if (poll(fds, 2, -1) < 0 && errno != EINTR) break;
    if (fds[1].revents) break;
    for (int i = 0; i < BURST; i++) {
      r->vectors[i] = (struct iovec){r->buffers[i] + TAG_BYTES, MAX_FRAME_BYTES};
      r->messages[i].msg_hdr = (struct msghdr){
          .msg_iov = &r->vectors[i], .msg_iovlen = 1, .msg_control = &r->control[i], .msg_controllen = sizeof r->control[i]};
    }
    int n = recvmmsg(r->socket, r->messages, BURST, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n; i++) frame_in(r, i);
  }
  return NULL;
}

static int open_socket(struct receiver *r) {
  struct device *device = r->context->device;
  struct sockaddr_ll from = {.sll_family = AF_PACKET, .sll_ifindex = device->ifindex, .sll_protocol = htons(ETH_P_ALL)};
  int one = 1, bytes = 64 << 20;
  r->socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  r->stop = eventfd(0, EFD_CLOEXEC);
  if (r->socket < 0 || r->stop < 0) return errno;
  setsockopt(r->socket, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  if (setsockopt(r->socket, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) < 0) return errno;
  if (setsockopt(r->socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0) return errno;
  return bind(r->socket, (struct sockaddr *)&from, sizeof from) < 0 ? errno : 0;
}

static void release(struct receiver *r) {
  if (r->socket >= 0) close(r->socket);
  if (r->stop >= 0) close(r->stop);
  free(r);
}

int receiver_start(struct context *context) {
  if (nic.mode != MODE_WIRE) return 0;
  if (!wire_allowed(context->device->netdev)) return EPERM;
  int error = 0;
  pthread_mutex_lock(&context->flow_mutex);
  if (!context->receiver) {
    struct receiver *r = calloc(1, sizeof *r);
    if (!r) abort();
    r->socket = r->stop = -1;
    r->context = context;
    store(&context->mtu, netdev_mtu(context->device->netdev));
    error = open_socket(r);
    sigset_t all, old;
    sigfillset(&all);
    /* Signals are the program's, so none may come to a thread that the program does not know. */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (!error) error = pthread_create(&r->thread, NULL, run, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error) release(r);
    else context->receiver = r;
  }
  pthread_mutex_unlock(&context->flow_mutex);
  return error;
}

void receiver_stop(struct context *context) {
  struct receiver *r = context->receiver;
  uint64_t one = 1;
  if (!r) return;
  context->receiver = NULL;
  if (write(r->stop, &one, sizeof one) < 0) abort();
  pthread_join(r->thread, NULL);
  release(r);
}
