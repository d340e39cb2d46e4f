/* Each fault does what README.md says of it. */
#include "check.h"

#include <time.h>
#include <unistd.h>

CHECK(fail_the_nth_wr, "`fail N STATUS`: the N-th WR fails so, what is before it succeeds, what is behind it is flushed") {
  faults("fail 3 REM_OP_ERR");
  struct rig r = rig_open((struct options){0});
  struct ibv_wc wc[8];
  struct chain c;
  chain_make(&c, &r, 5, 1);
  c.wr[1].send_flags = IBV_SEND_SIGNALED;
  EQUAL(post(&r, c.wr, NULL), 0);
  EQUAL(completions(r.cq, 4, wc), 4);
  const struct {
    unsigned id;
    enum ibv_wc_status status;
  } wanted[] = {{2, IBV_WC_SUCCESS}, {3, IBV_WC_REM_OP_ERR}, {4, IBV_WC_WR_FLUSH_ERR}, {5, IBV_WC_WR_FLUSH_ERR}};
  for (int i = 0; i < 4; i++) {
    EQUAL(wc[i].wr_id, wanted[i].id);
    EQUAL(wc[i].status, wanted[i].status);
  }
  EQUAL(to_state(r.qp, IBV_QPS_RESET), 0);
  to_rts(r.qp);
  EQUAL(post_one(&r, 9, IBV_SEND_SIGNALED), 0);
  EXPECT(completion(r.cq, wc));
  EQUAL(wc[0].status, IBV_WC_SUCCESS);
  rig_close(&r);
}

CHECK(fail_every_nth_wr, "`fail-every N STATUS` goes on") {
  faults("fail-every 4 LOC_QP_OP_ERR");
  struct rig r = rig_open((struct options){0});
  struct ibv_wc wc;
  for (int i = 1; i <= 12; i++) {
    EQUAL(post_one(&r, i, IBV_SEND_SIGNALED), 0);
    EXPECT(completion(r.cq, &wc));
    EQUAL(wc.wr_id, i);
    EQUAL(wc.status, i % 4 ? IBV_WC_SUCCESS : IBV_WC_LOC_QP_OP_ERR);
    if (i % 4) continue;
    EQUAL(to_state(r.qp, IBV_QPS_RESET), 0);
    to_rts(r.qp);
  }
  rig_close(&r);
}

CHECK(any_number_of_faults, "faults that are spent make room for others, and two of a kind count on their own") {
  control_open();
  struct rig r = rig_open((struct options){0});
  struct ibv_wc wc[2];
  for (int i = 0; i < 40; i++) {
    control("fail 1 FATAL_ERR");
    EQUAL(post_one(&r, i, 0), 0);
    EXPECT(completion(r.cq, wc));
    EQUAL(wc[0].status, IBV_WC_FATAL_ERR);
    EQUAL(to_state(r.qp, IBV_QPS_RESET), 0);
    to_rts(r.qp);
  }
  control("fail 1 LOC_QP_OP_ERR");
  control("fail 2 REM_OP_ERR");
  for (int i = 0; i < 2; i++) {
    EQUAL(post_one(&r, i, 0), 0);
    EXPECT(completion(r.cq, wc));
    EQUAL(wc[0].status, i ? IBV_WC_REM_OP_ERR : IBV_WC_LOC_QP_OP_ERR);
    EQUAL(to_state(r.qp, IBV_QPS_RESET), 0);
    to_rts(r.qp);
  }
  rig_close(&r);
}

CHECK(refuse_the_nth_wr, "`refuse N ERRNO`: posting stops there with bad_wr, and those before it are posted") {
  faults("refuse 3 ENOMEM");
  struct rig r = rig_open((struct options){0});
  struct ibv_send_wr *bad = NULL;
  struct ibv_wc wc;
  struct chain c;
  chain_make(&c, &r, 5, 1);
  c.wr[1].send_flags = IBV_SEND_SIGNALED;
  EQUAL(post(&r, c.wr, &bad), ENOMEM);
  EXPECT(bad == &c.wr[2]);
  EXPECT(completion(r.cq, &wc));
  EQUAL(wc.wr_id, 2);
  EQUAL(post(&r, bad, &bad), 0);
  rig_close(&r);
}

CHECK(stall_and_resume, "`stall`: WRs are taken and nothing completes; `resume`: all of it does, in order, with an event") {
  control_open();
  struct rig r = rig_open((struct options){.depth = 16});
  struct ibv_wc wc[8];
  struct ibv_cq *cq;
  void *context;
  EQUAL(post_one(&r, 1, IBV_SEND_SIGNALED), 0);
  EXPECT(completion(r.cq, wc));
  control("stall");
  EQUAL(ibv_req_notify_cq(r.cq, 0), 0);
  for (int i = 2; i < 6; i++) EQUAL(post_one(&r, i, i % 2 ? IBV_SEND_SIGNALED : 0), 0);
  EXPECT(!readable(r.channel->fd, 50));
  EQUAL(ibv_poll_cq(r.cq, 8, wc), 0);
  control("resume");
  EXPECT(readable(r.channel->fd, 2000));
  EQUAL(ibv_get_cq_event(r.channel, &cq, &context), 0);
  ibv_ack_cq_events(cq, 1);
  EQUAL(completions(r.cq, 2, wc), 2);
  EQUAL(wc[0].wr_id, 3);
  EQUAL(wc[1].wr_id, 5);
  EQUAL(post_one(&r, 6, IBV_SEND_SIGNALED), 0);
  EXPECT(completion(r.cq, wc));
  rig_close(&r);
}

CHECK(stall_at_the_nth_wr, "`stall N`: the N-th WR and all behind it stay; ERR flushes them") {
  faults("stall 3");
  struct rig r = rig_open((struct options){0});
  struct ibv_wc wc[8];
  struct chain c;
  chain_make(&c, &r, 5, 1);
  for (int i = 0; i < 5; i++) c.wr[i].send_flags = IBV_SEND_SIGNALED;
  EQUAL(post(&r, c.wr, NULL), 0);
  EQUAL(completions(r.cq, 2, wc), 2);
  usleep(30000);
  EQUAL(ibv_poll_cq(r.cq, 8, wc), 0);
  EQUAL(to_state(r.qp, IBV_QPS_ERR), 0);
  EQUAL(completions(r.cq, 3, wc), 3);
  for (int i = 0; i < 3; i++) {
    EQUAL(wc[i].wr_id, 3 + i);
    EQUAL(wc[i].status, IBV_WC_WR_FLUSH_ERR);
  }
  rig_close(&r);
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

CHECK(paced_completions, "`pace N`: so many WRs are executed a second: 40 at 200 take 0.2 s") {
  faults("pace 200");
  struct rig r = rig_open((struct options){.depth = 64});
  struct ibv_wc wc[64];
  struct chain c;
  chain_make(&c, &r, 40, 0);
  for (int i = 0; i < 40; i++) c.wr[i].send_flags = IBV_SEND_SIGNALED;
  double start = seconds();
  EQUAL(post(&r, c.wr, NULL), 0);
  EQUAL(completions(r.cq, 40, wc), 40);
  EXPECT(seconds() - start > 0.18);
  for (int i = 1; i < 40; i++) EQUAL(wc[i].wr_id, wc[i - 1].wr_id + 1);
  rig_close(&r);
}

CHECK(port_down_and_up, "`port down`: PORT_ERR, state DOWN, sends succeed and nothing leaves; `port up`: PORT_ACTIVE") {
  control_open();
  struct rig r = rig_open((struct options){0});
  struct ibv_port_attr port;
  struct ibv_wc wc;
  struct ibv_async_event event;
  control("port down");
  EXPECT(readable(r.context->async_fd, 2000));
  EQUAL(ibv_get_async_event(r.context, &event), 0);
  EQUAL(event.event_type, IBV_EVENT_PORT_ERR);
  EQUAL(event.element.port_num, 1);
  ibv_ack_async_event(&event);
  EQUAL(ibv_query_port(r.context, 1, &port), 0);
  EQUAL(port.state, IBV_PORT_DOWN);
  EQUAL(post_one(&r, 1, IBV_SEND_SIGNALED), 0);
  EXPECT(completion(r.cq, &wc));
  EQUAL(wc.status, IBV_WC_SUCCESS);
  control("port down"); /* no change, no event */
  control("port up");
  EQUAL(async_event(r.context), IBV_EVENT_PORT_ACTIVE);
  EQUAL(ibv_query_port(r.context, 1, &port), 0);
  EQUAL(port.state, IBV_PORT_ACTIVE);
  rig_close(&r);
}

static void everything_is_eio(struct rig *r) {
  struct ibv_device_attr device;
  struct ibv_port_attr port;
  union ibv_gid gid;
  struct ibv_async_event event;
  EQUAL(ibv_query_device(r->context, &device), EIO);
  EQUAL(ibv_query_port(r->context, 1, &port), EIO);
  EQUAL(ibv_query_gid(r->context, 1, 0, &gid), -1);
  EQUAL(errno, EIO);
  EQUAL(to_state(r->qp, IBV_QPS_ERR), EIO);
  errno = 0;
  EXPECT(!ibv_reg_mr(r->pd, r->memory, 64, 0));
  EQUAL(errno, EIO);
  errno = 0;
  EXPECT(!ibv_alloc_pd(r->context));
  EQUAL(errno, EIO);
  errno = 0;
  EXPECT(!ibv_create_cq(r->context, 4, NULL, NULL, 0));
  EQUAL(errno, EIO);
  errno = 0;
  EQUAL(ibv_get_async_event(r->context, &event), -1);
  EQUAL(errno, EIO);
  EQUAL(ibv_destroy_qp(r->qp), EIO);
  EQUAL(ibv_dereg_mr(r->mr), EIO);
  EQUAL(ibv_destroy_cq(r->cq), EIO);
  EQUAL(ibv_destroy_cq(r->cq), EIO); /* it may be tried again */
  EQUAL(ibv_dealloc_pd(r->pd), EIO);
  EQUAL(ibv_destroy_comp_channel(r->channel), 0);
  EQUAL(ibv_close_device(r->context), 0);
}

CHECK(device_removal, "`remove`: DEVICE_FATAL, then every call is EIO, posting too; the device is listed again after `insert`") {
  control_open();
  struct rig r = rig_open((struct options){0});
  struct ibv_wc wc;
  int n = -1;
  control("remove");
  EQUAL(async_event(r.context), IBV_EVENT_DEVICE_FATAL);
  control("remove"); /* it is gone already: no second event */
  EQUAL(post_one(&r, 1, IBV_SEND_SIGNALED), EIO);
  EQUAL(ibv_poll_cq(r.cq, 1, &wc), 0);
  struct ibv_device **list = ibv_get_device_list(&n);
  EQUAL(n, 0);
  ibv_free_device_list(list);
  everything_is_eio(&r);
  control("insert");
  struct rig again = rig_open((struct options){0});
  EQUAL(post_one(&again, 2, IBV_SEND_SIGNALED), 0);
  EXPECT(completion(again.cq, &wc));
  rig_close(&again);
}

CHECK(device_removal_that_posting_does_not_see, "`remove mute`: posting is still taken and nothing ever completes") {
  control_open();
  struct rig r = rig_open((struct options){0});
  struct ibv_wc wc;
  control("remove mute");
  EQUAL(async_event(r.context), IBV_EVENT_DEVICE_FATAL);
  EQUAL(post_one(&r, 1, IBV_SEND_SIGNALED), 0);
  usleep(30000);
  EQUAL(ibv_poll_cq(r.cq, 1, &wc), 0);
  everything_is_eio(&r);
}

CHECK(queue_pair_fatal,
      "`qp-fatal`: QP_FATAL, ERR, outstanding WRs flushed; the event must be acknowledged before the queue pair goes") {
  control_open();
  faults("stall");
  struct rig r = rig_open((struct options){.receives = 2});
  struct ibv_wc wc[4];
  struct ibv_sge sge = {(uintptr_t)r.memory, 64, r.mr->lkey};
  struct ibv_recv_wr receive = {.wr_id = 50, .sg_list = &sge, .num_sge = 1}, *bad;
  EQUAL(ibv_post_recv(r.qp, &receive, &bad), 0);
  EQUAL(post_one(&r, 1, 0), 0);
  control("qp-fatal");
  struct ibv_async_event event;
  EXPECT(readable(r.context->async_fd, 2000));
  EQUAL(ibv_get_async_event(r.context, &event), 0);
  EQUAL(event.event_type, IBV_EVENT_QP_FATAL);
  EXPECT(event.element.qp == r.qp);
  EQUAL(state_of(r.qp), IBV_QPS_ERR);
  EQUAL(completions(r.cq, 2, wc), 2);
  EQUAL(wc[0].wr_id, 1);
  EQUAL(wc[0].status, IBV_WC_WR_FLUSH_ERR);
  EQUAL(wc[1].wr_id, 50);
  EQUAL(wc[1].status, IBV_WC_WR_FLUSH_ERR);
  ibv_ack_async_event(&event);
  rig_close(&r);
}

CHECK(spurious_events, "`spurious` and `spurious-every N`: events come without a completion, and an arm is not used up by them") {
  control_open();
  struct rig r = rig_open((struct options){0});
  struct ibv_cq *cq;
  void *context;
  struct ibv_wc wc;
  control("spurious");
  EXPECT(readable(r.channel->fd, 2000));
  EQUAL(ibv_get_cq_event(r.channel, &cq, &context), 0);
  EQUAL(ibv_poll_cq(r.cq, 1, &wc), 0);
  control("spurious-every 2");
  EQUAL(ibv_req_notify_cq(r.cq, 0), 0);
  EXPECT(!readable(r.channel->fd, 20));
  EQUAL(ibv_req_notify_cq(r.cq, 0), 0);
  EXPECT(readable(r.channel->fd, 1000));
  EQUAL(ibv_get_cq_event(r.channel, &cq, &context), 0);
  EQUAL(post_one(&r, 1, IBV_SEND_SIGNALED), 0);
  EXPECT(readable(r.channel->fd, 1000));
  EQUAL(ibv_get_cq_event(r.channel, &cq, &context), 0);
  ibv_ack_cq_events(r.cq, 3);
  rig_close(&r);
}

CHECK(registrations_and_queue_pairs_that_fail, "`reg-mr N ERRNO` and `create-qp N ERRNO` fail the N-th, `-every` goes on") {
  faults("reg-mr 2 ENOMEM; create-qp-every 2 EPERM");
  struct rig r = rig_open((struct options){0});
  errno = 0;
  EXPECT(!ibv_reg_mr(r.pd, r.memory, 64, 0));
  EQUAL(errno, ENOMEM);
  struct ibv_mr *mr = ibv_reg_mr(r.pd, r.memory, 64, 0);
  EXPECT(mr);
  EQUAL(ibv_dereg_mr(mr), 0);
  struct ibv_qp_init_attr init = qp_init(&r, &(struct options){0});
  for (int i = 0; i < 2; i++) {
    errno = 0;
    EXPECT(!ibv_create_qp(r.pd, &init));
    EQUAL(errno, EPERM);
    struct ibv_qp *qp = ibv_create_qp(r.pd, &init);
    EXPECT(qp);
    EQUAL(ibv_destroy_qp(qp), 0);
  }
  rig_close(&r);
}

/* Run with SOFTNIC_REPORT; test/softnic/checks.test.ts reads it. */
CHECK(a_program_that_leaks, "what is not destroyed is in the report: a region, a CQ, a domain, a channel, a context") {
  static struct rig r;
  r = rig_open((struct options){0});
  EQUAL(post_one(&r, 1, IBV_SEND_SIGNALED), 0);
  EQUAL(ibv_destroy_qp(r.qp), 0);
}
