/*
 * Devices and contexts. One device for each Ethernet netdev of the caller's network namespace (or those that SOFTNIC_NETDEVS
 * names), with one port. Rules kept here: the ABI of verbs_context (abi_compat all ones, sz, the slots that inline functions
 * call); a context of a removed device fails every call with EIO, and the device is no longer listed; objects that were not
 * destroyed before their context was closed are the program's leak.
 */
#define _GNU_SOURCE
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "softnic.h"

static struct device *known;
static pthread_mutex_t known_mutex = PTHREAD_MUTEX_INITIALIZER;

static int netdev_ioctl(const char *name, unsigned long request, struct ifreq *out) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  memset(out, 0, sizeof *out);
  snprintf(out->ifr_name, sizeof out->ifr_name, "%s", name);
  int r = fd < 0 ? -1 : ioctl(fd, request, out);
  if (fd >= 0) close(fd);
  return r;
}

uint32_t netdev_mtu(const char *netdev) {
  struct ifreq r;
  return netdev_ioctl(netdev, SIOCGIFMTU, &r) < 0 ? 1500 : r.ifr_mtu;
}

bool netdev_running(const char *netdev) {
  struct ifreq r;
  return netdev_ioctl(netdev, SIOCGIFFLAGS, &r) == 0 && r.ifr_flags & IFF_UP && r.ifr_flags & IFF_RUNNING;
}

bool wire_allowed(const char *netdev) {
  char path[64];
  snprintf(path, sizeof path, "/sys/class/net/%s/device", netdev);
  if (access(path, F_OK) < 0) return true;
  fprintf(stderr, "softnic: wire mode leaves real hardware alone: %s\n", netdev);
  return false;
}

/* "v0" or "v0+v0.100+v0.200": the netdev, and those above it whose addresses the device also answers for. */
static void split(const char *spec, char *netdev, const char **uppers) {
  const char *plus = strchr(spec, '+');
  size_t n = plus ? (size_t)(plus - spec) : strlen(spec);
  if (n >= IF_NAMESIZE) n = IF_NAMESIZE - 1;
  memcpy(netdev, spec, n);
  netdev[n] = 0;
  *uppers = plus ? plus + 1 : "";
}

static struct device *find(const char *spec) {
  static const uint8_t none[6];
  char netdev[IF_NAMESIZE];
  const char *uppers;
  struct ifreq r;
  split(spec, netdev, &uppers);
  int index = if_nametoindex(netdev);
  if (!index || netdev_ioctl(netdev, SIOCGIFHWADDR, &r) < 0 || r.ifr_hwaddr.sa_family != ARPHRD_ETHER) return NULL;
  if (!memcmp(r.ifr_hwaddr.sa_data, none, 6)) return NULL;
  for (struct device *d = known; d; d = d->next)
    if (d->ifindex == index && !strcmp(d->netdev, netdev) && !memcmp(d->mac, r.ifr_hwaddr.sa_data, 6)) return d;
  struct device *d = calloc(1, sizeof *d);
  if (!d) abort();
  d->ifindex = index;
  memcpy(d->netdev, netdev, sizeof netdev);
  memcpy(d->mac, r.ifr_hwaddr.sa_data, 6);
  snprintf(d->uppers, sizeof d->uppers, "%s", uppers);
  d->base.node_type = IBV_NODE_CA;
  d->base.transport_type = IBV_TRANSPORT_IB;
  d->next = known;
  known = d;
  return d;
}

static void name(struct device *d, int index) {
  struct ibv_device *base = &d->base;
  d->index = index;
  snprintf(base->name, sizeof base->name, "softnic%d", index);
  snprintf(base->dev_name, sizeof base->dev_name, "uverbs%d", index);
  snprintf(base->dev_path, sizeof base->dev_path, "/sys/class/infiniband_verbs/uverbs%d", index);
  snprintf(base->ibdev_path, sizeof base->ibdev_path, "/sys/class/infiniband/softnic%d", index);
}

static int list_named(const char *specs, struct ibv_device **list, int most) {
  char *copy = strdup(specs), *rest = NULL;
  int n = 0;
  for (char *spec = strtok_r(copy, ", ", &rest); spec && n < most; spec = strtok_r(NULL, ", ", &rest)) {
    struct device *d = find(spec);
    if (!d) continue;
    name(d, n);
    list[n++] = &d->base;
  }
  free(copy);
  return n;
}

static int list_all(struct ibv_device **list, int most) {
  struct if_nameindex *all = if_nameindex();
  int n = 0;
  for (struct if_nameindex *i = all; i && i->if_index && n < most; i++) {
    struct device *d = find(i->if_name);
    if (!d) continue;
    name(d, n);
    list[n++] = &d->base;
  }
  if (all) if_freenameindex(all);
  return n;
}

struct ibv_device **ibv_get_device_list(int *count) {
  enum { MOST = 64 };
  nic_init();
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, fork_environment);
  struct ibv_device **list = calloc(MOST + 1, sizeof *list);
  if (!list) return NULL;
  const char *named = getenv("SOFTNIC_NETDEVS");
  pthread_mutex_lock(&known_mutex);
  int n = load(&nic.absent) ? 0 : named ? list_named(named, list, MOST) : list_all(list, MOST);
  pthread_mutex_unlock(&known_mutex);
  if (count) *count = n;
  return list;
}

void ibv_free_device_list(struct ibv_device **list) {
  free(list);
}

const char *ibv_get_device_name(struct ibv_device *device) {
  return device->name;
}

int ibv_get_device_index(struct ibv_device *device) {
  return to_device(device)->index;
}

__be64 ibv_get_device_guid(struct ibv_device *device) {
  const uint8_t *m = to_device(device)->mac;
  uint8_t eui[8] = {m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]};
  __be64 guid;
  memcpy(&guid, eui, sizeof guid);
  return guid;
}

static void *no_pointer(void) {
  errno = EOPNOTSUPP;
  return NULL;
}

static int no_int(void) {
  return EOPNOTSUPP;
}

static int rt_values(struct ibv_context *context, struct ibv_values_ex *values) {
  if (dead(context)) return EIO;
  if (values->comp_mask & IBV_VALUES_MASK_RAW_CLOCK) values->raw_clock = (struct timespec){.tv_nsec = now_ns()};
  values->comp_mask &= IBV_VALUES_MASK_RAW_CLOCK;
  return 0;
}

/* Slots of operations that a device lacks hold functions that say so, as those of real providers do. */
static void fill(struct verbs_context *v) {
  struct ibv_context_ops *ops = &v->context.ops;
  v->sz = sizeof *v;
  v->context.abi_compat = __VERBS_ABI_IS_EXTENDED;
  v->context.cmd_fd = -1;
  v->context.num_comp_vectors = 4;
  v->query_port = port_query;
  v->query_device_ex = device_query;
  v->query_rt_values = rt_values;
  v->create_cq_ex = cq_create_ex;
  v->create_qp_ex = qp_create_ex;
  v->modify_qp_rate_limit = qp_rate_limit;
  v->ibv_create_flow = flow_create;
  v->ibv_destroy_flow = flow_destroy;
  v->advise_mr = (void *)no_int;
  v->alloc_null_mr = (void *)no_pointer;
  v->read_counters = (void *)no_int;
  v->attach_counters_point_flow = (void *)no_int;
  v->create_counters = (void *)no_pointer;
  v->destroy_counters = (void *)no_int;
  v->reg_dm_mr = (void *)no_pointer;
  v->alloc_dm = (void *)no_pointer;
  v->free_dm = (void *)no_int;
  v->modify_flow_action_esp = (void *)no_int;
  v->destroy_flow_action = (void *)no_int;
  v->create_flow_action_esp = (void *)no_pointer;
  v->alloc_parent_domain = (void *)no_pointer;
  v->dealloc_td = (void *)no_int;
  v->alloc_td = (void *)no_pointer;
  v->modify_cq = (void *)no_int;
  v->post_srq_ops = (void *)no_int;
  v->destroy_rwq_ind_table = (void *)no_int;
  v->create_rwq_ind_table = (void *)no_pointer;
  v->destroy_wq = (void *)no_int;
  v->modify_wq = (void *)no_int;
  v->create_wq = (void *)no_pointer;
  v->open_qp = (void *)no_pointer;
  v->get_srq_num = (void *)no_int;
  v->create_srq_ex = (void *)no_pointer;
  v->open_xrcd = (void *)no_pointer;
  v->close_xrcd = (void *)no_int;
  ops->poll_cq = cq_poll;
  ops->req_notify_cq = cq_arm;
  ops->post_send = send_post;
  ops->post_recv = receive_post;
  ops->post_srq_recv = (void *)no_int;
  ops->alloc_mw = (void *)no_pointer;
  ops->bind_mw = (void *)no_int;
  ops->dealloc_mw = (void *)no_int;
}

struct ibv_context *ibv_open_device(struct ibv_device *device) {
  struct context *c = calloc(1, sizeof *c);
  if (!c || event_queue_open(&c->async) < 0) {
    free(c);
    return NULL;
  }
  fill(&c->verbs);
  c->device = to_device(device);
  c->mtu = netdev_mtu(c->device->netdev);
  pthread_mutex_init(&c->flow_mutex, NULL);
  pthread_mutex_init(&c->verbs.context.mutex, NULL);
  c->verbs.context.device = device;
  c->verbs.context.async_fd = c->async.fd;
  pthread_mutex_lock(&nic.mutex);
  bool absent = nic.absent;
  c->next = nic.contexts;
  if (!absent) nic.contexts = c;
  pthread_mutex_unlock(&nic.mutex);
  if (absent) {
    event_queue_close(&c->async);
    free(c);
    errno = ENODEV;
    return NULL;
  }
  report_made(CONTEXTS);
  if (fault_control()) engine_start();
  return &c->verbs.context;
}

int ibv_close_device(struct ibv_context *context) {
  struct context *c = to_context(context);
  receiver_stop(c);
  pthread_mutex_lock(&nic.mutex);
  for (struct context **at = &nic.contexts; *at; at = &(*at)->next)
    if (*at == c) {
      *at = c->next;
      break;
    }
  /* The engine must not touch objects that the program forgot to destroy. */
  for (struct qp **at = &nic.qps; *at;) {
    if ((*at)->context == c) {
      report_add(&(*at)->stats);
      *at = (*at)->next;
    } else {
      at = &(*at)->next;
    }
  }
  for (struct cq **at = &nic.cqs; *at;) {
    if ((*at)->base.context == context) *at = (*at)->next;
    else at = &(*at)->next;
  }
  bool last = !nic.contexts;
  pthread_mutex_unlock(&nic.mutex);
  event_queue_close(&c->async);
  pthread_mutex_destroy(&c->flow_mutex);
  pthread_mutex_destroy(&context->mutex);
  free(c);
  report_gone(CONTEXTS);
  if (last) report_write();
  return 0;
}
