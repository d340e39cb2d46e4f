/*
 * A receiver that takes datagrams off a UDP socket and looks at none: their bytes are not even copied (MSG_TRUNC into no buffer), and
 * the kernel hands over what was sent as one message in one piece (UDP_GRO). Prints "ready", drains until its stdin closes and nothing
 * has come for 200 ms, then prints one JSON row.
 *
 *   drain PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
enum { MESSAGES = 64, BUFFER_BYTES = 128 << 20, QUIET_MS = 200 };

static void die(const char *what) {
  fprintf(stderr, "drain: %s: %s\n", what, strerror(errno));
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, buffer = BUFFER_BYTES;
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
  if (sock < 0 || bind(sock, (struct sockaddr *)&at, sizeof at)) die("bind");
  if (setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer)) die("SO_RCVBUFFORCE");
  if (setsockopt(sock, IPPROTO_UDP, UDP_GRO, &one, sizeof one)) die("UDP_GRO");
  puts("ready");
  fflush(stdout);

  static struct mmsghdr m[MESSAGES];
  static union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control[MESSAGES];
  unsigned long long packets = 0, bytes = 0, messages = 0;
  struct pollfd fd[2] = {{.fd = sock, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
  for (int open = 1;;) {
    int ready = poll(fd, open ? 2 : 1, open ? -1 : QUIET_MS);
    if (ready < 0) die("poll");
    if (ready == 0) break;
    if (open && fd[1].revents) open = 0; /* nobody writes to it: its end is all it can tell */
    if (!fd[0].revents) continue;
    for (int i = 0; i < MESSAGES; i++) m[i].msg_hdr = (struct msghdr){.msg_control = control[i].bytes, .msg_controllen = sizeof control[i].bytes};
    int n = recvmmsg(sock, m, MESSAGES, MSG_TRUNC, NULL);
    if (n < 0 && errno != EAGAIN) die("recvmmsg");
    for (int i = 0; i < n; i++) {
      unsigned long long length = m[i].msg_len, segment = 0;
      for (struct cmsghdr *c = CMSG_FIRSTHDR(&m[i].msg_hdr); c; c = CMSG_NXTHDR(&m[i].msg_hdr, c))
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) segment = *(int *)CMSG_DATA(c);
      packets += segment ? (length + segment - 1) / segment : 1;
      bytes += length;
      messages++;
    }
  }
  printf("{\"packets\":%llu,\"udpBytes\":%llu,\"messages\":%llu}\n", packets, bytes, messages);
  return 0;
}
