/*
 * The device's description of itself: attributes, its port, its GID table. Rules kept here: the port follows its netdev (and the
 * port fault), its link layer is Ethernet; the table holds the default GID made of the MAC, then ::ffff:a.b.c.d for every IPv4
 * address and every IPv6 address, all RoCE v2 and with the netdev's index; an empty entry is ENODATA to the newer call and zeroes
 * to the old; ibv_query_port the function fills 48 bytes, the slot as many as its caller knows.
 */
#define _GNU_SOURCE
#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>

#include "softnic.h"

enum { GID_SYSFS_ROCE_V2 = 1, COMPAT_PORT_BYTES = 48 };

static void add_gid(struct ibv_gid_entry *entries, int *n, const uint8_t *raw, int ifindex) {
  for (int i = 0; i < *n; i++)
    if (!memcmp(entries[i].gid.raw, raw, 16)) return;
  if (*n == GIDS) return;
  struct ibv_gid_entry *entry = &entries[*n];
  *entry = (struct ibv_gid_entry){
      .gid_index = *n, .port_num = PORT, .gid_type = IBV_GID_TYPE_ROCE_V2, .ndev_ifindex = ifindex};
  memcpy(entry->gid.raw, raw, 16);
  ++*n;
}

static void add_addresses(struct ibv_gid_entry *entries, int *n, const struct ifaddrs *all, const char *netdev, int family) {
  for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
    if (!a->ifa_addr || a->ifa_addr->sa_family != family || strcmp(a->ifa_name, netdev)) continue;
    uint8_t raw[16] = {[10] = 0xff, [11] = 0xff};
    if (family == AF_INET) memcpy(raw + 12, &((struct sockaddr_in *)a->ifa_addr)->sin_addr, 4);
    else memcpy(raw, &((struct sockaddr_in6 *)a->ifa_addr)->sin6_addr, 16);
    add_gid(entries, n, raw, if_nametoindex(netdev));
  }
}

int gid_table(const struct device *device, struct ibv_gid_entry *entries) {
  const uint8_t *m = device->mac;
  uint8_t local[16] = {0xfe, 0x80, [8] = m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]};
  int n = 0;
  struct ifaddrs *all = NULL;
  if (!nic.limits.gids) return 0;
  add_gid(entries, &n, local, device->ifindex);
  if (getifaddrs(&all) < 0) return n;
  add_addresses(entries, &n, all, device->netdev, AF_INET);
  add_addresses(entries, &n, all, device->netdev, AF_INET6);
  char uppers[sizeof device->uppers], *rest = NULL;
  memcpy(uppers, device->uppers, sizeof uppers);
  for (char *upper = strtok_r(uppers, "+", &rest); upper; upper = strtok_r(NULL, "+", &rest)) {
    add_addresses(entries, &n, all, upper, AF_INET);
    add_addresses(entries, &n, all, upper, AF_INET6);
  }
  freeifaddrs(all);
  return n;
}

int _ibv_query_gid_ex(struct ibv_context *context, uint32_t port, uint32_t index, struct ibv_gid_entry *entry, uint32_t flags,
                      size_t size) {
  struct ibv_gid_entry entries[GIDS];
  if (dead(context)) return EIO;
  if (port != PORT || index >= GIDS || flags) return EINVAL;
  if (index >= (uint32_t)gid_table(to_context(context)->device, entries)) return ENODATA;
  memcpy(entry, &entries[index], size < sizeof *entry ? size : sizeof *entry);
  return 0;
}

ssize_t _ibv_query_gid_table(struct ibv_context *context, struct ibv_gid_entry *out, size_t most, uint32_t flags, size_t size) {
  struct ibv_gid_entry entries[GIDS];
  if (dead(context)) return -EIO;
  if (flags || size < sizeof *out) return -EINVAL;
  size_t n = gid_table(to_context(context)->device, entries);
  if (n > most) return -EINVAL;
  for (size_t i = 0; i < n; i++) memcpy((char *)out + i * size, &entries[i], sizeof *entries);
  return n;
}

int ibv_query_gid(struct ibv_context *context, uint8_t port, int index, union ibv_gid *gid) {
  struct ibv_gid_entry entry = {0};
  int error = _ibv_query_gid_ex(context, port, index, &entry, 0, sizeof entry);
  if (error && error != ENODATA) {
    errno = error;
    return -1;
  }
  *gid = entry.gid;
  return 0;
}

/* For ibv_devinfo; not in the public headers. */
int ibv_query_gid_type(struct ibv_context *context, uint8_t port, unsigned index, int *type);
int ibv_query_gid_type(struct ibv_context *context, uint8_t port, unsigned index, int *type) {
  union ibv_gid gid;
  *type = GID_SYSFS_ROCE_V2;
  return ibv_query_gid(context, port, index, &gid);
}

int ibv_query_pkey(struct ibv_context *context, uint8_t port, int index, __be16 *pkey) {
  errno = dead(context) ? EIO : EINVAL;
  if (dead(context) || port != PORT || index != 0) return -1;
  *pkey = 0xffff;
  return 0;
}

int ibv_get_pkey_index(struct ibv_context *context, uint8_t port, __be16 pkey) {
  return !dead(context) && port == PORT && pkey == 0xffff ? 0 : -1;
}

uint32_t path_mtu(uint32_t netdev_mtu) {
  uint32_t bytes = 256;
  while (bytes < 4096 && 2 * bytes + 88 <= netdev_mtu) bytes *= 2;
  return bytes;
}

int port_query(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr, size_t size) {
  if (dead(context)) return EIO;
  if (port != PORT) return EINVAL;
  const char *netdev = to_context(context)->device->netdev;
  bool up = netdev_running(netdev) && !(load_relaxed(&nic.hot) & HOT_PORT_DOWN);
  struct ibv_port_attr is = {
      .state = up ? IBV_PORT_ACTIVE : IBV_PORT_DOWN,
      .max_mtu = IBV_MTU_4096,
      .active_mtu = IBV_MTU_256,
      .gid_tbl_len = GIDS,
      .port_cap_flags = IBV_PORT_CM_SUP | IBV_PORT_IP_BASED_GIDS,
      .max_msg_sz = 1 << 30,
      .pkey_tbl_len = 1,
      .max_vl_num = 1,
      .active_width = 2,        /* 4X */
      .active_speed = 32,       /* of 25 Gb/s */
      .phys_state = up ? 5 : 3, /* LinkUp, Disabled */
      .link_layer = IBV_LINK_LAYER_ETHERNET,
      .flags = IBV_QPF_GRH_REQUIRED,
  };
  /* RoCE's own headers must fit beside the payload. */
  for (uint32_t bytes = path_mtu(netdev_mtu(netdev)); bytes > 256; bytes /= 2) is.active_mtu++;
  memset(attr, 0, size);
  memcpy(attr, &is, size < sizeof is ? size : sizeof is);
  return 0;
}

#undef ibv_query_port
int ibv_query_port(struct ibv_context *context, uint8_t port, struct _compat_ibv_port_attr *attr) {
  return port_query(context, port, (struct ibv_port_attr *)attr, COMPAT_PORT_BYTES);
}

int device_query(struct ibv_context *context, const struct ibv_query_device_ex_input *input, struct ibv_device_attr_ex *attr,
                 size_t size) {
  const struct limits *limits = &nic.limits;
  if (dead(context)) return EIO;
  if (input && input->comp_mask) return EINVAL;
  __be64 guid = ibv_get_device_guid(context->device);
  struct ibv_device_attr_ex is = {
      .orig_attr =
          {
              .fw_ver = "1.0.0",
              .node_guid = guid,
              .sys_image_guid = guid,
              .max_mr_size = UINT64_MAX,
              .page_size_cap = 0xfffff000,
              .vendor_part_id = 1,
              .max_qp = 1 << 18,
              .max_qp_wr = limits->max_qp_wr,
              .device_cap_flags = IBV_DEVICE_RAW_MULTI | IBV_DEVICE_CURR_QP_STATE_MOD | IBV_DEVICE_PORT_ACTIVE_EVENT |
                                  IBV_DEVICE_SYS_IMAGE_GUID | IBV_DEVICE_MANAGED_FLOW_STEERING |
                                  (limits->checksum ? IBV_DEVICE_RAW_IP_CSUM : 0),
              .max_sge = limits->max_sge,
              .max_cq = 1 << 24,
              .max_cqe = limits->max_cqe,
              .max_mr = MR_SLOTS - 1,
              .max_pd = 1 << 24,
              .max_raw_ethy_qp = 1 << 18,
              .max_pkeys = 1,
              .phys_port_cnt = 1,
          },
      .completion_timestamp_mask = UINT64_MAX,
      .hca_core_clock = 1000000,
      .raw_packet_caps = limits->checksum ? IBV_RAW_PACKET_CAP_IP_CSUM : 0,
      .phys_port_cnt_ex = 1,
  };
  is.device_cap_flags_ex = is.orig_attr.device_cap_flags;
  if (limits->pacing)
    is.packet_pacing_caps =
        (struct ibv_packet_pacing_caps){limits->rate_min_kbps, limits->rate_max_kbps, 1 << IBV_QPT_RAW_PACKET};
  memset(attr, 0, size);
  memcpy(attr, &is, size < sizeof is ? size : sizeof is);
  return 0;
}

int ibv_query_device(struct ibv_context *context, struct ibv_device_attr *attr) {
  return device_query(context, NULL, (struct ibv_device_attr_ex *)attr, sizeof *attr);
}

/* There is no /sys/class/infiniband, so these calls, by which programs read it, are answered here. */
const char *ibv_get_sysfs_path(void);
const char *ibv_get_sysfs_path(void) {
  return "/sys";
}

int ibv_read_sysfs_file(const char *directory, const char *file, char *buffer, size_t size);
int ibv_read_sysfs_file(const char *directory, const char *file, char *buffer, size_t size) {
  static const char *const known[][2] = {
      {"fw_ver", "1.0.0"}, {"board_id", "SOFTNIC"}, {"hca_type", "softnic"}, {"hw_rev", "0"}, {"ports/1/link_layer", "Ethernet"}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strstr(directory, "/infiniband/softnic") && !strcmp(file, known[i][0]) && strlen(known[i][1]) < size) {
      strcpy(buffer, known[i][1]);
      return strlen(buffer);
    }
  return -1;
}
