/*
 * librdmacm: finds the device that answers for an address. It uses only the public calls of libibverbs. Rules kept here
 * (rdma_bind_addr(3) and the kernel's answers): a wildcard binds to no device (verbs stays NULL); an address of a netdev without a
 * device is ENODEV, one that is not the machine's EADDRNOTAVAIL; port 0 becomes a free port; ids on one device share one context,
 * which is closed with the last of them. SOFTNIC_RDMACM=off is a machine without /dev/infiniband/rdma_cm: no event channel
 * (ENODEV). Connections are not provided: the other calls fail with ENOSYS.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <infiniband/verbs.h>
#include <netinet/in.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { GIDS = 64, PORT = 1, FIRST_FREE_PORT = 32768, LAST_FREE_PORT = 60999 };

struct shared {
  struct ibv_context *context;
  int uses;
  struct shared *next;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct shared *shared;

struct rdma_event_channel *rdma_create_event_channel(void) {
  const char *cm = getenv("SOFTNIC_RDMACM");
  if (cm && !strcmp(cm, "off")) {
    errno = ENODEV;
    return NULL;
  }
  struct rdma_event_channel *channel = calloc(1, sizeof *channel);
  if (!channel) return NULL;
  channel->fd = eventfd(0, EFD_CLOEXEC);
  if (channel->fd >= 0) return channel;
  free(channel);
  return NULL;
}

void rdma_destroy_event_channel(struct rdma_event_channel *channel) {
  close(channel->fd);
  free(channel);
}

/* No event ever comes, because binding makes none. Honours O_NONBLOCK. */
int rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **event) {
  uint64_t n;
  *event = NULL;
  if (read(channel->fd, &n, sizeof n) >= 0) errno = EIO;
  return -1;
}

int rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context, enum rdma_port_space ps) {
  struct rdma_cm_id *made = calloc(1, sizeof *made);
  if (!made) return -1;
  made->channel = channel;
  made->context = context;
  made->ps = ps;
  made->qp_type = ps == RDMA_PS_UDP || ps == RDMA_PS_IPOIB ? IBV_QPT_UD : IBV_QPT_RC;
  *id = made;
  return 0;
}

static bool wildcard(const struct sockaddr *address) {
  static const struct in6_addr any = IN6ADDR_ANY_INIT;
  if (address->sa_family == AF_INET) return ((const struct sockaddr_in *)address)->sin_addr.s_addr == INADDR_ANY;
  return !memcmp(&((const struct sockaddr_in6 *)address)->sin6_addr, &any, sizeof any);
}

static void gid_of(const struct sockaddr *address, uint8_t *gid) {
  memset(gid, 0, 16);
  gid[10] = gid[11] = 0xff;
  if (address->sa_family == AF_INET) memcpy(gid + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
  else memcpy(gid, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
}

static bool local(const uint8_t *gid) {
  struct ifaddrs *all = NULL;
  bool found = false;
  if (getifaddrs(&all) < 0) return false;
  for (const struct ifaddrs *a = all; a && !found; a = a->ifa_next) {
    uint8_t its[16];
    if (!a->ifa_addr || (a->ifa_addr->sa_family != AF_INET && a->ifa_addr->sa_family != AF_INET6)) continue;
    gid_of(a->ifa_addr, its);
    found = !memcmp(its, gid, 16);
  }
  freeifaddrs(all);
  return found;
}

/* With the mutex held. */
static struct ibv_context *share(struct ibv_device *device) {
  for (struct shared *s = shared; s; s = s->next)
    if (s->context->device == device) {
      s->uses++;
      return s->context;
    }
  struct shared *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->context = ibv_open_device(device);
  if (!s->context) {
    free(s);
    return NULL;
  }
  s->uses = 1;
  s->next = shared;
  shared = s;
  return s->context;
}

static void unshare_context(struct ibv_context *context) {
  pthread_mutex_lock(&mutex);
  for (struct shared **at = &shared; *at; at = &(*at)->next) {
    struct shared *s = *at;
    if (s->context != context) continue;
    if (--s->uses == 0) {
      *at = s->next;
      ibv_close_device(s->context);
      free(s);
    }
    break;
  }
  pthread_mutex_unlock(&mutex);
}

static struct ibv_context *context_of(const uint8_t *gid) {
  struct ibv_device **devices = ibv_get_device_list(NULL);
  struct ibv_context *found = NULL;
  pthread_mutex_lock(&mutex);
  for (struct ibv_device **d = devices; d && *d && !found; d++) {
    struct ibv_gid_entry entries[GIDS];
    struct ibv_context *context = share(*d);
    if (!context) continue;
    ssize_t n = ibv_query_gid_table(context, entries, GIDS, 0);
    for (ssize_t i = 0; i < n && !found; i++)
      if (!memcmp(entries[i].gid.raw, gid, 16)) found = context;
    if (found) break;
    pthread_mutex_unlock(&mutex);
    unshare_context(context);
    pthread_mutex_lock(&mutex);
  }
  pthread_mutex_unlock(&mutex);
  if (devices) ibv_free_device_list(devices);
  return found;
}

int rdma_bind_addr(struct rdma_cm_id *id, struct sockaddr *address) {
  static uint16_t next;
  bool v4 = address->sa_family == AF_INET;
  uint8_t gid[16];
  if ((!v4 && address->sa_family != AF_INET6) || id->verbs) {
    errno = EINVAL;
    return -1;
  }
  gid_of(address, gid);
  if (!wildcard(address)) {
    id->verbs = context_of(gid);
    if (!id->verbs) {
      errno = local(gid) ? ENODEV : EADDRNOTAVAIL;
      return -1;
    }
    id->port_num = PORT;
    id->pd = NULL;
  }
  memcpy(&id->route.addr.src_storage, address, v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
  in_port_t *port = v4 ? &id->route.addr.src_sin.sin_port : &id->route.addr.src_sin6.sin6_port;
  if (!*port)
    *port = htons(FIRST_FREE_PORT + __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % (LAST_FREE_PORT - FIRST_FREE_PORT));
  return 0;
}

int rdma_destroy_id(struct rdma_cm_id *id) {
  if (id->verbs) unshare_context(id->verbs);
  free(id);
  return 0;
}

__be16 rdma_get_src_port(struct rdma_cm_id *id) {
  return id->route.addr.src_sin.sin_port; /* in the same place for IPv6 */
}

__be16 rdma_get_dst_port(struct rdma_cm_id *id) {
  return id->route.addr.dst_sin.sin_port;
}

struct ibv_context **rdma_get_devices(int *count) {
  int n = 0;
  struct ibv_device **devices = ibv_get_device_list(&n);
  struct ibv_context **list = calloc(n + 1, sizeof *list);
  int opened = 0;
  pthread_mutex_lock(&mutex);
  for (int i = 0; list && devices && i < n; i++) {
    list[opened] = share(devices[i]);
    if (list[opened]) opened++;
  }
  pthread_mutex_unlock(&mutex);
  if (devices) ibv_free_device_list(devices);
  if (count) *count = opened;
  return list;
}

void rdma_free_devices(struct ibv_context **list) {
  for (struct ibv_context **c = list; *c; c++) unshare_context(*c);
  free(list);
}

const char *rdma_event_str(enum rdma_cm_event_type event) {
  static const char *const names[] = {
      [RDMA_CM_EVENT_ADDR_RESOLVED] = "ADDR_RESOLVED",     [RDMA_CM_EVENT_ADDR_ERROR] = "ADDR_ERROR",
      [RDMA_CM_EVENT_ROUTE_RESOLVED] = "ROUTE_RESOLVED",   [RDMA_CM_EVENT_ROUTE_ERROR] = "ROUTE_ERROR",
      [RDMA_CM_EVENT_CONNECT_REQUEST] = "CONNECT_REQUEST", [RDMA_CM_EVENT_CONNECT_RESPONSE] = "CONNECT_RESPONSE",
      [RDMA_CM_EVENT_CONNECT_ERROR] = "CONNECT_ERROR",     [RDMA_CM_EVENT_UNREACHABLE] = "UNREACHABLE",
      [RDMA_CM_EVENT_REJECTED] = "REJECTED",               [RDMA_CM_EVENT_ESTABLISHED] = "ESTABLISHED",
      [RDMA_CM_EVENT_DISCONNECTED] = "DISCONNECTED",       [RDMA_CM_EVENT_DEVICE_REMOVAL] = "DEVICE_REMOVAL",
      [RDMA_CM_EVENT_MULTICAST_JOIN] = "MULTICAST_JOIN",   [RDMA_CM_EVENT_MULTICAST_ERROR] = "MULTICAST_ERROR",
      [RDMA_CM_EVENT_ADDR_CHANGE] = "ADDR_CHANGE",         [RDMA_CM_EVENT_TIMEWAIT_EXIT] = "TIMEWAIT_EXIT"};
  return event < sizeof names / sizeof *names ? names[event] : "unknown";
}
