// first_packet PORT COMMAND…: runs COMMAND and prints, as one JSON object, the nanoseconds from just before fork until this process
// saw the first UDP packet to PORT on any interface of its network namespace (null if none came) and until COMMAND was gone, its
// exit status and its peak RSS. Packets are seen on an AF_PACKET socket: after the sender's kernel has given them to the driver.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  // IPv4 without options, protocol UDP, destination port: offsets from the network header, as SOCK_DGRAM filters count them.
  struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 5),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 3),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 22),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, atoi(argv[1]), 0, 1),
    BPF_STMT(BPF_RET | BPF_K, 64),
    BPF_STMT(BPF_RET | BPF_K, 0),
  };
  struct sock_fprog program = { sizeof code / sizeof *code, code };
  int tap = socket(AF_PACKET, SOCK_DGRAM, 0);
  if (tap < 0) die("socket");
  if (setsockopt(tap, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) die("SO_ATTACH_FILTER");
  struct sockaddr_ll all = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
  if (bind(tap, (struct sockaddr *)&all, sizeof all) < 0) die("bind");

  sigset_t child, before;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, &before);
  int ended = signalfd(-1, &child, SFD_CLOEXEC);
  if (ended < 0) die("signalfd");

  long long start = now();
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    sigprocmask(SIG_SETMASK, &before, NULL);
    dup2(2, 1);
    close(tap);
    execvp(argv[2], argv + 2);
    die(argv[2]);
  }
  long long packet = 0;
  int status;
  struct rusage usage;
  struct pollfd fds[2] = { { .fd = ended, .events = POLLIN }, { .fd = tap, .events = POLLIN } };
  for (;;) {
    if (poll(fds, packet ? 1 : 2, -1) < 0 && errno != EINTR) die("poll");
    if (!packet && (fds[1].revents & POLLIN)) packet = now();
    if (wait4(pid, &status, WNOHANG, &usage) == pid) break;
  }
  long long end = now();
  if (packet) printf("{\"firstPacketNanoseconds\":%lld,", packet - start);
  else printf("{\"firstPacketNanoseconds\":null,");
  printf("\"exitNanoseconds\":%lld,\"status\":%d,\"maxRssBytes\":%lld}\n", end - start,
         WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), usage.ru_maxrss * 1024LL);
  return 0;
}
