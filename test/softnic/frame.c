/* Ethernet frames: where their headers are, and their checksums (RFC 1071, 768, 8200). */
#include <arpa/inet.h>
#include <string.h>

#include "softnic.h"

enum {
  ETHER_IPV4 = 0x0800,
  ETHER_VLAN = 0x8100,
  ETHER_QINQ = 0x88a8,
  ETHER_IPV6 = 0x86dd,
  TCP = 6,
  UDP = 17,
};

static uint16_t get16(const uint8_t *p) {
  return p[0] << 8 | p[1];
}

static void put16(uint8_t *p, uint16_t v) {
  p[0] = v >> 8;
  p[1] = v & 0xff;
}

static void parse_ipv4(struct frame *f) {
  const uint8_t *ip = f->bytes + f->l3;
  uint32_t header = (ip[0] & 15) * 4;
  uint32_t total = get16(ip + 2);
  if (ip[0] >> 4 != 4 || header < 20 || total < header || f->l3 + total > f->length) {
    f->l3 = 0;
    return;
  }
  f->version = 4;
  f->protocol = ip[9];
  f->end = f->l3 + total;
  /* No transport checksum spans a fragment. */
  if (!(get16(ip + 6) & 0x3fff)) f->l4 = f->l3 + header;
}

static void parse_ipv6(struct frame *f) {
  const uint8_t *ip = f->bytes + f->l3;
  uint32_t end = f->l3 + 40 + get16(ip + 4);
  if (ip[0] >> 4 != 6 || end > f->length) {
    f->l3 = 0;
    return;
  }
  f->version = 6;
  f->protocol = ip[6];
  f->end = end;
  f->l4 = f->l3 + 40;
}

void frame_parse(struct frame *f, const uint8_t *bytes, uint32_t length) {
  *f = (struct frame){.bytes = bytes, .length = length};
  if (length < ETHERNET_BYTES) return;
  uint32_t at = 12;
  f->ether_type = get16(bytes + at);
  while ((f->ether_type == ETHER_VLAN || f->ether_type == ETHER_QINQ) && length >= at + 6) {
    f->tagged = true;
    f->vlan_tci = get16(bytes + at + 2);
    at += 4;
    f->ether_type = get16(bytes + at);
  }
  at += 2;
  f->l3 = at;
  if (f->ether_type == ETHER_IPV4 && length >= at + 20) parse_ipv4(f);
  else if (f->ether_type == ETHER_IPV6 && length >= at + 40) parse_ipv6(f);
  else f->l3 = 0;
  uint32_t header = f->protocol == UDP ? 8 : f->protocol == TCP ? 20 : UINT32_MAX;
  if (!f->l3 || !f->l4 || f->end - f->l4 < header) f->l4 = 0;
}

static uint64_t sum(uint64_t so_far, const uint8_t *p, uint32_t n) {
  for (; n >= 8; p += 8, n -= 8) {
    uint32_t words[2];
    memcpy(words, p, 8);
    so_far += (uint64_t)words[0] + words[1];
  }
  for (; n >= 2; p += 2, n -= 2) {
    uint16_t word;
    memcpy(&word, p, 2);
    so_far += word;
  }
  if (n) {
    uint8_t last[2] = {*p, 0};
    uint16_t word;
    memcpy(&word, last, 2);
    so_far += word;
  }
  return so_far;
}

/* A sum in the machine's byte order as a 16-bit number of the wire. */
static uint16_t fold(uint64_t s) {
  while (s >> 16) s = (s & 0xffff) + (s >> 16);
  return ntohs((uint16_t)s);
}

static uint16_t l4_sum(const uint8_t *bytes, const struct frame *f) {
  uint32_t length = f->end - f->l4;
  uint8_t tail[8] = {0, 0, length >> 8 & 0xff, length & 0xff, 0, 0, 0, f->protocol};
  uint64_t s = sum(0, tail, sizeof tail);
  s = f->version == 4 ? sum(s, bytes + f->l3 + 12, 8) : sum(s, bytes + f->l3 + 8, 32);
  return fold(sum(s, bytes + f->l4, length));
}

void frame_fill_l4_checksum(uint8_t *bytes, const struct frame *f) {
  if (!f->l4) return;
  uint8_t *field = bytes + f->l4 + (f->protocol == UDP ? 6 : 16);
  put16(field, 0);
  uint16_t checksum = ~l4_sum(bytes, f) & 0xffff;
  put16(field, f->protocol == UDP && checksum == 0 ? 0xffff : checksum);
}

void frame_fill_checksums(uint8_t *bytes, uint32_t length) {
  struct frame f;
  frame_parse(&f, bytes, length);
  if (!f.l3) return;
  if (f.version == 4) {
    put16(bytes + f.l3 + 10, 0);
    put16(bytes + f.l3 + 10, ~fold(sum(0, bytes + f.l3, (bytes[f.l3] & 15) * 4)) & 0xffff);
  }
  frame_fill_l4_checksum(bytes, &f);
}

bool frame_checksums_good(const struct frame *f) {
  if (!f->l3 || !f->l4) return false;
  const uint8_t *ip = f->bytes + f->l3;
  if (f->version == 4 && fold(sum(0, ip, (ip[0] & 15) * 4)) != 0xffff) return false;
  bool unused = f->protocol == UDP && f->version == 4 && get16(f->bytes + f->l4 + 6) == 0;
  return unused || l4_sum(f->bytes, f) == 0xffff;
}
