/* librdmacm: from an address to a device. */
#include "check.h"

#include <arpa/inet.h>
#include <rdma/rdma_cma.h>

static struct rdma_cm_id *id_of(struct rdma_event_channel *channel) {
  struct rdma_cm_id *id = NULL;
  EQUAL(rdma_create_id(channel, &id, NULL, RDMA_PS_UDP), 0);
  return id;
}

static int bind_v4(struct rdma_cm_id *id, const char *address) {
  struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(address)};
  errno = 0;
  return rdma_bind_addr(id, (struct sockaddr *)&sin);
}

CHECK(an_address_finds_its_device,
      "binding to a netdev's address gives its device and port 1, IPv4 and IPv6; ids on it share a context") {
  struct rdma_event_channel *channel = rdma_create_event_channel();
  EXPECT(channel);
  struct rdma_cm_id *a = id_of(channel), *b = id_of(channel);
  EQUAL(bind_v4(a, "10.88.0.1"), 0);
  EXPECT(a->verbs);
  EQUAL(a->port_num, 1);
  EXPECT(rdma_get_src_port(a) != 0);
  struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6};
  EQUAL(inet_pton(AF_INET6, "fd88::1", &sin6.sin6_addr), 1);
  EQUAL(rdma_bind_addr(b, (struct sockaddr *)&sin6), 0);
  EXPECT(b->verbs == a->verbs);
  EQUAL(rdma_destroy_id(a), 0);
  struct ibv_device_attr attr;
  EQUAL(ibv_query_device(b->verbs, &attr), 0); /* still open */
  EQUAL(rdma_destroy_id(b), 0);
  rdma_destroy_event_channel(channel);
}

CHECK(addresses_without_a_device, "a wildcard binds to no device, loopback is ENODEV, an address that is not ours EADDRNOTAVAIL") {
  struct rdma_event_channel *channel = rdma_create_event_channel();
  EXPECT(channel);
  struct rdma_cm_id *id = id_of(channel);
  EQUAL(bind_v4(id, "127.0.0.1"), -1);
  EQUAL(errno, ENODEV);
  EXPECT(!id->verbs);
  EQUAL(bind_v4(id, "192.0.2.1"), -1);
  EQUAL(errno, EADDRNOTAVAIL);
  EQUAL(bind_v4(id, "0.0.0.0"), 0);
  EXPECT(!id->verbs);
  EQUAL(rdma_listen(id, 1), -1);
  EQUAL(errno, ENOSYS);
  EQUAL(rdma_destroy_id(id), 0);
  rdma_destroy_event_channel(channel);
}

CHECK(a_machine_without_rdma_cm, "SOFTNIC_RDMACM=off: no event channel, ENODEV") {
  setenv("SOFTNIC_RDMACM", "off", 1);
  errno = 0;
  EXPECT(!rdma_create_event_channel());
  EQUAL(errno, ENODEV);
}
