/* Shared by the rules (flow.c) and the thread that reads the netdev (receiver.c). */
#ifndef SOFTNIC_FLOW_H
#define SOFTNIC_FLOW_H

#include "softnic.h"

enum { MAX_SPECS = 8 };

struct flow {
  struct ibv_flow base;
  struct qp *qp;
  uint32_t type;
  uint16_t priority;
  uint32_t tag;
  int specs;
  struct ibv_flow_spec spec[MAX_SPECS];
  /* The rule matches the frame that is being delivered. */
  bool matched;
  struct flow *next;
};

/* Makes the netdev's frames come in, in wire mode; in other modes no frame ever does. Returns 0 or an errno. */
int receiver_start(struct context *context);
void flow_deliver(struct context *context, const struct frame *frame, bool checksums_good);

#endif
