/*
 * The C floor: how fast sendmmsg can put the tutorial's heaps on a wire at all. One thread fills (samples, timestamp, heap cnt),
 * one thread sends messages that were built before the clock starts; no library, no allocation, no SPEAD code in between.
 *
 * Bytes on the wire (SPEAD-64-48): a heap with the two descriptors, the data heaps (0x1600 timestamp immediate, 0x3300 adc_samples
 * int8), a stop heap. Heap cnts start at 1. Packets of a heap are of equal size by the rule of 'even' (src/spead/plan-packed.ts).
 * Memory: where a heap is one packet, header and payload lie side by side, so that a message is one segment; otherwise a heap's
 * payload is contiguous and every packet is a header segment and a payload segment.
 *
 * The clock runs from the fill of the first heap behind --warmup-heaps to the return of the last sendmmsg. In the row, payloadBytes
 * counts the timed heaps, packets and udpBytes all that was put on the wire.
 *
 * Left out: error recovery (any error ends the program), pacing, more than one destination, IPv6.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/*
 * Largest UDP payload the kernel takes for a segmented message; 65508 is EMSGSIZE (docs/ground-rules.md, "Segmentation and zero copy").
 */
enum { MAX_MESSAGE_BYTES = 65507, MAX_SEGMENTS = 128, MAX_MESSAGES_PER_CALL = 1024 };
/* Packet header, heap cnt, heap length, payload offset, payload length. */
enum { HEADER_BYTES = 40, FIRST_HEADER_BYTES = HEADER_BYTES + 2 * 8, HEADER_STRIDE = 64 };

static void die(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("floor: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* ---- SPEAD-64-48 ---- */

static uint64_t immediate(uint64_t id, uint64_t value) { return htobe64(UINT64_C(1) << 63 | id << 48 | value); }
static uint64_t addressed(uint64_t id, uint64_t offset) { return htobe64(id << 48 | offset); }

/* Writes the packet header and the four standard pointers; returns where further pointers go. */
static uint64_t *put_header(void *at, int pointers, uint64_t cnt, uint64_t heap_length, uint64_t offset, uint64_t payload) {
  uint64_t *p = at;
  p[0] = htobe64(UINT64_C(0x5304020600000000) | (uint64_t)pointers);
  p[1] = immediate(1, cnt);
  p[2] = immediate(2, heap_length);
  p[3] = immediate(3, offset);
  p[4] = immediate(4, payload);
  return p + 5;
}

struct bytes {
  const void *data;
  size_t length;
};

/* A descriptor is a SPEAD packet of its own (SPEAD section 8.4); field order as spead2 writes it. Returns its length. */
static size_t put_descriptor(uint8_t *at, uint64_t id, const struct bytes field[5]) {
  static const uint64_t field_id[5] = {0x10, 0x11, 0x13, 0x12, 0x15}; /* name, description, format, shape, dtype */
  int fields = field[4].length ? 5 : 4;
  size_t total = 0;
  for (int i = 0; i < fields; i++) total += field[i].length;
  uint64_t *p = put_header(at, 5 + fields, 1, total, 0, total);
  *p++ = immediate(0x14, id);
  size_t offset = 0;
  for (int i = 0; i < fields; i++) {
    *p++ = addressed(field_id[i], offset);
    offset += field[i].length;
  }
  uint8_t *q = (uint8_t *)p;
  for (int i = 0; i < fields; i++) {
    memcpy(q, field[i].data, field[i].length);
    q += field[i].length;
  }
  return q - at;
}

static size_t put_descriptor_heap(uint8_t *at, uint64_t cnt, uint64_t heap_size) {
  static const uint8_t u48[3] = {'u', 0, 48};
  uint8_t shape[7] = {0}, body[1024];
  for (int i = 0; i < 6; i++) shape[6 - i] = heap_size >> (8 * i);
  char dtype[128];
  snprintf(dtype, sizeof dtype, "{'descr': '|i1', 'fortran_order': False, 'shape': (%llu,)}", (unsigned long long)heap_size);
#define TEXT(s) {s, sizeof(s) - 1}
  struct bytes timestamp[5] = {TEXT("timestamp"), TEXT("Index of the first sample"), {u48, 3}, {"", 0}, {"", 0}};
  struct bytes samples[5] = {TEXT("adc_samples"), TEXT("ADC converter output"), {"", 0}, {shape, 7}, {dtype, strlen(dtype)}};
  size_t first = put_descriptor(body, 0x1600, timestamp);
  size_t total = first + put_descriptor(body + first, 0x3300, samples);
  uint64_t *p = put_header(at, 6, cnt, total, 0, total);
  p[0] = addressed(5, 0);
  p[1] = addressed(5, first);
  memcpy(p + 2, body, total);
  return FIRST_HEADER_BYTES + total;
}

static size_t put_stop_heap(uint8_t *at, uint64_t cnt) {
  uint64_t *p = put_header(at, 6, cnt, 1, 0, 1);
  p[0] = immediate(6, 2);
  p[1] = addressed(0, 0);
  *(uint8_t *)(p + 2) = 0;
  return FIRST_HEADER_BYTES + 1;
}

/* ---- packet plan ---- */

static uint64_t packets_per_heap, packet_bytes;

/*
 * All packets equal: packets × size = heap + 40 × packets + 16 (the two item pointers ride in the first packet). Takes the least
 * possible count for which that divides, or one more; otherwise equal packets of the least count, size rounded up to 8, with a shorter
 * last one.
 */
static void plan(uint64_t heap_size, uint64_t max_packet) {
  uint64_t total = heap_size + FIRST_HEADER_BYTES - HEADER_BYTES, room = max_packet - HEADER_BYTES;
  uint64_t least = (total + room - 1) / room;
  for (uint64_t k = least; k <= least + 1; k++)
    if (total % k == 0) {
      packets_per_heap = k;
      packet_bytes = total / k + HEADER_BYTES;
      return;
    }
  packets_per_heap = least;
  packet_bytes = ((total + least - 1) / least + 7) / 8 * 8 + HEADER_BYTES;
  if (packet_bytes > max_packet) packet_bytes = (total + least - 1) / least + HEADER_BYTES;
}

/* ---- batches ---- */

static uint64_t heap_size, heaps, warmup_heaps, batch_heaps, batches = 4;

struct messages {
  struct mmsghdr *header;
  unsigned count;
};

struct batch {
  uint8_t *data;            /* interleaved packets, or heap after heap of payload */
  uint8_t *headers;         /* NULL when interleaved */
  struct messages all, tail; /* tail: the last batch of the run, when it is not full */
};

static struct batch *batch;

static void *map_zeroed(size_t bytes) {
  size_t huge = 2u << 20, length = (bytes + huge - 1) / huge * huge;
  uint8_t *p = mmap(NULL, length + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) die("mmap of %zu bytes: %s", length, strerror(errno));
  p = (uint8_t *)(((uintptr_t)p + huge - 1) / huge * huge);
  madvise(p, length, MADV_HUGEPAGE);
  if (madvise(p, length, MADV_POPULATE_WRITE) && errno == EINVAL) memset(p, 0, length);
  return p;
}

static uint64_t last_packet_bytes(void) {
  uint64_t total = heap_size + packets_per_heap * HEADER_BYTES + 16;
  return total - (packets_per_heap - 1) * packet_bytes;
}

static uint8_t control[CMSG_SPACE(sizeof(uint16_t))] __attribute__((aligned(8)));

/* Cuts the first n heaps of a batch into messages: equal packets, up to the kernel's limits, ending at a shorter packet. */
static struct messages build_messages(const struct batch *b, uint64_t n) {
  uint64_t rows = n * packets_per_heap, last = last_packet_bytes();
  struct messages m = {calloc(rows, sizeof *m.header), 0};
  struct iovec *iov = calloc(rows * 2, sizeof *iov), *next = iov;
  uint64_t bytes = 0, segments = 0;
  for (uint64_t row = 0; row < rows; row++) {
    uint64_t heap = row / packets_per_heap, packet = row % packets_per_heap;
    uint64_t size = packet == packets_per_heap - 1 ? last : packet_bytes;
    if (!segments || bytes + size > MAX_MESSAGE_BYTES || segments == MAX_SEGMENTS) {
      struct msghdr *h = &m.header[m.count++].msg_hdr;
      h->msg_iov = next;
      h->msg_control = control;
      h->msg_controllen = sizeof control;
      bytes = segments = 0;
    }
    struct msghdr *h = &m.header[m.count - 1].msg_hdr;
    if (!b->headers) {
      if (!segments) *next++ = (struct iovec){b->data + row * packet_bytes, 0};
      next[-1].iov_len += size;
    } else {
      uint64_t head = packet ? HEADER_BYTES : FIRST_HEADER_BYTES;
      uint64_t offset = packet ? packet * (packet_bytes - HEADER_BYTES) - 16 : 0;
      *next++ = (struct iovec){b->headers + row * HEADER_STRIDE, head};
      *next++ = (struct iovec){b->data + heap * heap_size + offset, size - head};
    }
    h->msg_iovlen = next - h->msg_iov;
    bytes += size;
    segments++;
    if (size != packet_bytes) segments = 0;
  }
  return m;
}

static void build_batch(struct batch *b) {
  uint64_t rows = batch_heaps * packets_per_heap, last = last_packet_bytes();
  int interleaved = packets_per_heap == 1;
  b->data = map_zeroed(interleaved ? rows * packet_bytes : batch_heaps * heap_size);
  b->headers = interleaved ? NULL : map_zeroed(rows * HEADER_STRIDE);
  for (uint64_t row = 0; row < rows; row++) {
    uint64_t packet = row % packets_per_heap;
    uint64_t head = packet ? HEADER_BYTES : FIRST_HEADER_BYTES;
    uint64_t offset = packet ? packet * (packet_bytes - HEADER_BYTES) - 16 : 0;
    uint64_t size = packet == packets_per_heap - 1 ? last : packet_bytes;
    uint8_t *at = interleaved ? b->data + row * packet_bytes : b->headers + row * HEADER_STRIDE;
    uint64_t *p = put_header(at, packet ? 4 : 6, 0, heap_size, offset, size - head);
    if (packet == 0) {
      p[0] = immediate(0x1600, 0);
      p[1] = addressed(0x3300, 0);
    }
  }
  b->all = build_messages(b, batch_heaps);
  if (heaps % batch_heaps) b->tail = build_messages(b, heaps % batch_heaps);
}

/* ---- hand-over between the two threads ---- */

struct counter {
  _Atomic uint32_t value, asleep;
} __attribute__((aligned(128)));

static struct counter filled, sent;

/*
 * Spins for 1000 pauses, 20 to 50 µs by the CPU, then sleeps on a futex; 10 ms at most: Linux 6.18 was seen to lose a wake-up of a private
 * futex, and both threads slept until a signal came.
 */
static void wait_until(struct counter *c, uint32_t target) {
  static const struct timespec most = {.tv_nsec = 10 * 1000 * 1000};
  for (int i = 0; i < 1000; i++) {
    if ((int32_t)(atomic_load_explicit(&c->value, memory_order_acquire) - target) >= 0) return;
    __builtin_ia32_pause();
  }
  for (;;) {
    atomic_store(&c->asleep, 1);
    uint32_t seen = atomic_load(&c->value);
    if ((int32_t)(seen - target) >= 0) break;
    syscall(SYS_futex, &c->value, FUTEX_WAIT_PRIVATE, seen, &most, NULL, 0);
  }
  atomic_store(&c->asleep, 0);
}

static void publish(struct counter *c, uint32_t value) {
  atomic_store(&c->value, value);
  if (atomic_load(&c->asleep) && atomic_exchange(&c->asleep, 0)) syscall(SYS_futex, &c->value, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static double started, cpu_started;
static int no_fill; /* samples stay as they are */

static void *fill(void *unused) {
  (void)unused;
  int interleaved = packets_per_heap == 1;
  uint32_t round = 0;
  for (uint64_t first = 0; first < heaps; first += batch_heaps, round++) {
    struct batch *b = &batch[round % batches];
    uint64_t n = heaps - first < batch_heaps ? heaps - first : batch_heaps;
    if (first == warmup_heaps) {
      cpu_started = cpu_seconds();
      started = now();
    }
    wait_until(&sent, round + 1 > batches ? round + 1 - (uint32_t)batches : 0);
    for (uint64_t j = 0; j < n; j++) {
      uint64_t index = first + j, cnt = immediate(1, index + 2); /* cnt 1 was the descriptors' */
      uint8_t *head = interleaved ? b->data + j * packet_bytes : b->headers + j * packets_per_heap * HEADER_STRIDE;
      uint8_t *samples = interleaved ? head + FIRST_HEADER_BYTES : b->data + j * heap_size;
      uint64_t timestamp = immediate(0x1600, (index * heap_size) & ((UINT64_C(1) << 48) - 1));
      memcpy(head + HEADER_BYTES, &timestamp, 8);
      for (uint64_t k = 0; k < packets_per_heap; k++) memcpy(head + k * HEADER_STRIDE + 8, &cnt, 8);
      if (!no_fill) memset(samples, (int8_t)index, heap_size);
    }
    publish(&filled, round + 1);
  }
  return NULL;
}

static int sock;

static void send_messages(const struct messages *m) {
  for (unsigned done = 0; done < m->count;) {
    unsigned n = m->count - done < MAX_MESSAGES_PER_CALL ? m->count - done : MAX_MESSAGES_PER_CALL;
    int r = sendmmsg(sock, m->header + done, n, 0);
    if (r < 0) die("sendmmsg: %s", strerror(errno));
    done += r;
  }
}

static void send_all(void) {
  uint32_t round = 0;
  for (uint64_t first = 0; first < heaps; first += batch_heaps, round++) {
    struct batch *b = &batch[round % batches];
    wait_until(&filled, round + 1);
    send_messages(heaps - first < batch_heaps ? &b->tail : &b->all);
    publish(&sent, round + 1);
  }
}

static void send_control(const uint8_t *data, size_t length) {
  if (send(sock, data, length, 0) < 0) die("send: %s", strerror(errno));
}

/* ---- main ---- */

static uint64_t number(const char *text, const char *name, uint64_t least, uint64_t most) {
  char *end;
  errno = 0;
  uint64_t v = strtoull(text, &end, 10);
  if (errno || *end || v < least || v > most) die("%s must be %llu..%llu, not %s", name, (unsigned long long)least, (unsigned long long)most, text);
  return v;
}

int main(int argc, char **argv) {
  static const struct option options[] = {{"heap-size", 1, 0, 'H'}, {"heaps", 1, 0, 'n'},       {"packet-size", 1, 0, 'p'},
                                          {"batches", 1, 0, 'b'},   {"batch-bytes", 1, 0, 'B'}, {"warmup-heaps", 1, 0, 'w'},
                                          {"no-fill", 0, 0, 'N'},
                                          {0}};
  uint64_t max_packet = 9000, batch_bytes = 512 * 1024;
  heap_size = 8192;
  heaps = 1000;
  for (int c; (c = getopt_long(argc, argv, "H:n:p:b:B:w:N", options, NULL)) != -1;) {
    if (c == 'H') heap_size = number(optarg, "--heap-size", 1, UINT64_C(1) << 30);
    else if (c == 'n') heaps = number(optarg, "--heaps", 1, UINT64_C(1) << 40);
    else if (c == 'p') max_packet = number(optarg, "--packet-size", 512, MAX_MESSAGE_BYTES);
    else if (c == 'b') batches = number(optarg, "--batches", 1, 64);
    else if (c == 'B') batch_bytes = number(optarg, "--batch-bytes", 1, UINT64_C(1) << 30);
    else if (c == 'N') no_fill = 1;
    else if (c == 'w') warmup_heaps = number(optarg, "--warmup-heaps", 0, UINT64_C(1) << 40);
    else return 2;
  }
  char *colon = argc - optind == 1 ? strrchr(argv[optind], ':') : NULL;
  if (!colon) {
    fputs("usage: floor [--heap-size B] [--heaps N] [--packet-size B] [--batches N] [--batch-bytes B] [--warmup-heaps N] [--no-fill] IPV4:PORT\n", stderr);
    return 2;
  }
  *colon = 0;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(number(colon + 1, "port", 1, 65535))};
  if (inet_pton(AF_INET, argv[optind], &to.sin_addr) != 1) die("%s is not an IPv4 address", argv[optind]);

  plan(heap_size, max_packet);
  batch_heaps = batch_bytes / heap_size ? batch_bytes / heap_size : 1;
  if (warmup_heaps % batch_heaps) die("--warmup-heaps must be a multiple of the %llu heaps of a batch", (unsigned long long)batch_heaps);
  uint64_t timed_heaps = heaps;
  heaps += warmup_heaps;
  struct cmsghdr *cmsg = (struct cmsghdr *)control;
  *cmsg = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(uint16_t)), .cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT};
  *(uint16_t *)CMSG_DATA(cmsg) = packet_bytes;
  batch = calloc(batches, sizeof *batch);
  for (uint64_t i = 0; i < batches; i++) build_batch(&batch[i]);

  sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  int probe = IP_PMTUDISC_PROBE, buffer = 2 << 20; /* PROBE: never fragment silently */
  if (sock < 0 || setsockopt(sock, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof probe)) die("socket: %s", strerror(errno));
  if (setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer)) setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
  if (connect(sock, (struct sockaddr *)&to, sizeof to)) die("connect: %s", strerror(errno));

  uint8_t scratch[2048];
  uint64_t udp_bytes = heaps * (heap_size + packets_per_heap * HEADER_BYTES + 16);
  size_t length = put_descriptor_heap(scratch, 1, heap_size);
  udp_bytes += length;
  send_control(scratch, length);

  pthread_t filler;
  if (pthread_create(&filler, NULL, fill, NULL)) die("pthread_create failed");
  send_all();
  double seconds = now() - started, payload = timed_heaps * heap_size;
  pthread_join(filler, NULL);
  double cpu = cpu_seconds() - cpu_started;

  length = put_stop_heap(scratch, heaps + 2);
  udp_bytes += length;
  send_control(scratch, length);

  printf("{\"program\":\"floor\",\"heapSizeBytes\":%llu,\"heaps\":%llu,\"warmupHeaps\":%llu,\"packetSizeBytes\":%llu,\"largestPacketBytes\":%llu,"
         "\"packetsPerHeap\":%llu,\"batches\":%llu,\"batchHeaps\":%llu,\"messagesPerBatch\":%u,\"packets\":%llu,\"payloadBytes\":%.0f,"
         "\"udpBytes\":%llu,\"seconds\":%.9f,\"payloadBytesPerSecond\":%.0f,\"cpuSeconds\":%.6f}\n",
         (unsigned long long)heap_size, (unsigned long long)timed_heaps, (unsigned long long)warmup_heaps, (unsigned long long)max_packet,
         (unsigned long long)packet_bytes, (unsigned long long)packets_per_heap, (unsigned long long)batches, (unsigned long long)batch_heaps, batch[0].all.count,
         (unsigned long long)(heaps * packets_per_heap + 2), payload, (unsigned long long)udp_bytes, seconds, payload / seconds, cpu);
  return 0;
}
