/*
 * Delivers a frame, by mode: null and model touch nothing, copy gathers it into memory of the NIC's own, pcap writes it to a file,
 * wire puts it on the netdev by a packet socket. Rules kept here: short frames are padded to 60 bytes on the way out;
 * IBV_SEND_IP_CSUM fills the IPv4 header and the UDP or TCP checksum, as on mlx5, and without it not a byte is changed;
 * back-pressure of the netdev holds the queue up and loses nothing.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "softnic.h"

enum { BURST = 64, BUFFER_BYTES = 16 * MAX_FRAME_BYTES, GIVE_UP_AFTER_MS = 2000 };

struct delivery {
  int socket;
  uint32_t frames;
  uint32_t used;
  struct mmsghdr messages[BURST];
  struct iovec vectors[BURST];
  uint8_t bytes[BUFFER_BYTES];
};

static struct {
  pthread_mutex_t mutex;
  FILE *file;
} capture = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static int open_capture(void) {
  struct header {
    uint32_t magic;
    uint16_t major, minor;
    uint32_t zone, accuracy, snap, link;
  } header = {0xa1b23c4d, 2, 4, 0, 0, MAX_FRAME_BYTES, 1};
  const char *name = getenv("SOFTNIC_PCAP");
  int error = 0;
  pthread_mutex_lock(&capture.mutex);
  if (!capture.file) {
    capture.file = name ? fopen(name, "we") : NULL;
    error = capture.file ? 0 : name ? errno : EINVAL;
    if (error) fprintf(stderr, "softnic: pcap mode writes to the file named by SOFTNIC_PCAP: %s\n", strerror(error));
    else fwrite(&header, sizeof header, 1, capture.file);
  }
  pthread_mutex_unlock(&capture.mutex);
  return error;
}

static void write_capture(const uint8_t *bytes, uint32_t length) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  uint32_t record[4] = {t.tv_sec, t.tv_nsec, length, length};
  pthread_mutex_lock(&capture.mutex);
  fwrite(record, sizeof record, 1, capture.file);
  fwrite(bytes, length, 1, capture.file);
  pthread_mutex_unlock(&capture.mutex);
}

void delivery_finish(void) {
  pthread_mutex_lock(&capture.mutex);
  if (capture.file) fflush(capture.file);
  pthread_mutex_unlock(&capture.mutex);
}

static int open_wire(const struct device *device, int *out) {
  if (!wire_allowed(device->netdev)) return EPERM;
  /* Protocol 0: it never receives. */
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  int bytes = 8 << 20;
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = device->ifindex};
  if (bind(fd, (struct sockaddr *)&to, sizeof to) < 0) {
    int error = errno;
    close(fd);
    return error;
  }
  *out = fd;
  return 0;
}

int delivery_open(struct qp *qp) {
  if (nic.mode == MODE_NULL || nic.mode == MODE_MODEL || is_ud(qp)) return 0;
  struct delivery *d = malloc(sizeof *d);
  if (!d) return ENOMEM;
  d->socket = -1;
  d->frames = d->used = 0;
  qp->delivery = d;
  if (nic.mode == MODE_PCAP) return open_capture();
  if (nic.mode == MODE_WIRE) return open_wire(qp->context->device, &d->socket);
  return 0;
}

void delivery_close(struct qp *qp) {
  if (!qp->delivery) return;
  if (qp->delivery->socket >= 0) close(qp->delivery->socket);
  free(qp->delivery);
  delivery_finish();
}

/* Sends what it can of messages [from, frames). Returns how many are done with, sent or given up. */
static uint32_t send_some(struct qp *qp, uint32_t from, uint32_t *waited_ms) {
  struct delivery *d = qp->delivery;
  int sent = sendmmsg(d->socket, d->messages + from, d->frames - from, 0);
  if (sent > 0) {
    *waited_ms = 0;
    return sent;
  }
  if (errno == EINTR) return 0;
  if ((errno == ENOBUFS || errno == EAGAIN) && (*waited_ms)++ < GIVE_UP_AFTER_MS) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return 0;
  }
  qp->stats.frames--;
  if (errno == EMSGSIZE) qp->stats.dropped_oversize++;
  else if (errno == ENETDOWN || errno == ENXIO || errno == ENODEV) qp->stats.dropped_port_down++;
  else qp->stats.dropped_by_kernel++;
  return 1;
}

void delivery_flush(struct qp *qp) {
  struct delivery *d = qp->delivery;
  if (!d || !d->frames) return;
  uint32_t waited_ms = 0;
  for (uint32_t done = 0; done < d->frames;) done += send_some(qp, done, &waited_ms);
  d->frames = d->used = 0;
}

uint32_t gather(uint8_t *to, const struct ibv_sge *sges, uint32_t n) {
  uint32_t length = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (!sges[i].length) continue;
    memcpy(to + length, mr_memory(&sges[i]), sges[i].length);
    length += sges[i].length;
  }
  return length;
}

void deliver(struct qp *qp, const struct ibv_sge *sges, uint32_t n, const uint8_t *inline_data, uint32_t bytes, unsigned flags) {
  struct delivery *d = qp->delivery;
  if (!d) return;
  if (d->frames == BURST || BUFFER_BYTES - d->used < MAX_FRAME_BYTES) delivery_flush(qp);
  uint8_t *frame = d->bytes + d->used;
  if (inline_data) memcpy(frame, inline_data, bytes);
  else bytes = gather(frame, sges, n);
  if (nic.mode == MODE_COPY) return;
  if (bytes < MIN_FRAME_BYTES) {
    memset(frame + bytes, 0, MIN_FRAME_BYTES - bytes);
    bytes = MIN_FRAME_BYTES;
  }
  if (flags & IBV_SEND_IP_CSUM) frame_fill_checksums(frame, bytes);
  if (nic.mode == MODE_PCAP) {
    write_capture(frame, bytes);
    return;
  }
  d->vectors[d->frames] = (struct iovec){frame, bytes};
  d->messages[d->frames] = (struct mmsghdr){.msg_hdr = {.msg_iov = &d->vectors[d->frames], .msg_iovlen = 1}};
  d->frames++;
  d->used += (bytes + 63) & ~63u;
}
