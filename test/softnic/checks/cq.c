/* Completion queues, their events, and extended ones. */
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

CHECK(cq_overrun, "one completion more than a CQ holds is IBV_EVENT_CQ_ERR and QP_FATAL; nothing new is ever written to that CQ") {
  struct rig r = rig_open((struct options){.depth = 8, .cqe = 3});
  struct ibv_wc wc[8];
  EQUAL(r.cq->cqe, 3);
  for (int i = 0; i < 3; i++) EQUAL(post_one(&r, i, IBV_SEND_SIGNALED), 0);
  EXPECT(!readable(r.context->async_fd, 20));
  EQUAL(post_one(&r, 3, IBV_SEND_SIGNALED), 0);
  EQUAL(async_event(r.context), IBV_EVENT_CQ_ERR);
  EQUAL(async_event(r.context), IBV_EVENT_QP_FATAL);
  EQUAL(state_of(r.qp), IBV_QPS_ERR);
  EQUAL(ibv_poll_cq(r.cq, 8, wc), 3);
  EQUAL(wc[2].wr_id, 2);
  EQUAL(post_one(&r, 4, IBV_SEND_SIGNALED), 0);
  EQUAL(ibv_poll_cq(r.cq, 8, wc), 0);
  EXPECT(!readable(r.context->async_fd, 20)); /* told once */
  rig_close(&r);
}

CHECK(cqs_that_are_refused, "a CQ of no entries, of more than max_cqe, or on a vector there is not, is EINVAL") {
  faults("limit max_cqe 100");
  struct rig r = rig_open((struct options){0});
  struct ibv_device_attr attr;
  EQUAL(ibv_query_device(r.context, &attr), 0);
  EQUAL(attr.max_cqe, 100);
  const struct {
    int cqe, vector;
  } bad[] = {{0, 0}, {-1, 0}, {101, 0}, {10, -1}, {10, r.context->num_comp_vectors}};
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    errno = 0;
    EXPECT(!ibv_create_cq(r.context, bad[i].cqe, NULL, NULL, bad[i].vector));
    EQUAL(errno, EINVAL);
  }
  struct ibv_cq *cq = ibv_create_cq(r.context, 100, NULL, NULL, r.context->num_comp_vectors - 1);
  EXPECT(cq);
  EQUAL(ibv_destroy_cq(cq), 0);
  rig_close(&r);
}

CHECK(events_are_one_shot, "an armed CQ brings one event, then none until it is armed again") {
  struct rig r = rig_open((struct options){0});
  struct ibv_cq *cq;
  void *context;
  struct ibv_wc wc[8];
  EQUAL(post_one(&r, 0, IBV_SEND_SIGNALED), 0);
  EXPECT(!readable(r.channel->fd, 20)); /* not armed */
  EQUAL(ibv_poll_cq(r.cq, 8, wc), 1);
  EQUAL(ibv_req_notify_cq(r.cq, 0), 0);
  for (int i = 0; i < 3; i++) EQUAL(post_one(&r, i, IBV_SEND_SIGNALED), 0);
  EXPECT(readable(r.channel->fd, 1000));
  EQUAL(ibv_get_cq_event(r.channel, &cq, &context), 0);
  EXPECT(cq == r.cq && context == r.cq->cq_context);
  EXPECT(!readable(r.channel->fd, 20));
  ibv_ack_cq_events(r.cq, 1);
  rig_close(&r);
}

CHECK(arming_looks_forward_only, "a completion that was there before the CQ was armed brings no event") {
  struct rig r = rig_open((struct options){0});
  struct ibv_cq *cq;
  void *context;
  EQUAL(post_one(&r, 0, IBV_SEND_SIGNALED), 0);
  EQUAL(ibv_req_notify_cq(r.cq, 0), 0);
  EXPECT(!readable(r.channel->fd, 50));
  EQUAL(post_one(&r, 1, IBV_SEND_SIGNALED), 0);
  EXPECT(readable(r.channel->fd, 1000));
  EQUAL(ibv_get_cq_event(r.channel, &cq, &context), 0);
  ibv_ack_cq_events(r.cq, 1);
  rig_close(&r);
}

CHECK(solicited_only, "armed for solicited completions, a send that succeeds brings no event and an error does") {
  struct rig r = rig_open((struct options){0});
  struct ibv_cq *cq;
  void *context;
  EQUAL(ibv_req_notify_cq(r.cq, 1), 0);
  EQUAL(post_one(&r, 0, IBV_SEND_SIGNALED), 0);
  EXPECT(!readable(r.channel->fd, 50));
  EQUAL(to_state(r.qp, IBV_QPS_ERR), 0);
  EQUAL(post_one(&r, 1, 0), 0);
  EXPECT(readable(r.channel->fd, 1000));
  EQUAL(ibv_get_cq_event(r.channel, &cq, &context), 0);
  ibv_ack_cq_events(r.cq, 1);
  rig_close(&r);
}

CHECK(channels_that_do_not_block,
      "with O_NONBLOCK on its fd, ibv_get_cq_event and ibv_get_async_event return EAGAIN when there is nothing") {
  struct rig r = rig_open((struct options){0});
  struct ibv_cq *cq;
  void *context;
  struct ibv_async_event event;
  non_blocking(r.channel->fd);
  errno = 0;
  EQUAL(ibv_get_cq_event(r.channel, &cq, &context), -1);
  EQUAL(errno, EAGAIN);
  errno = 0;
  EQUAL(ibv_get_async_event(r.context, &event), -1);
  EQUAL(errno, EAGAIN);
  rig_close(&r);
}

static int destroyed;

static void *destroy(void *cq) {
  EQUAL(ibv_destroy_cq(cq), 0);
  __atomic_store_n(&destroyed, 1, __ATOMIC_RELEASE);
  return NULL;
}

CHECK(events_must_be_acknowledged, "ibv_destroy_cq waits until every event that was got is acknowledged") {
  struct rig r = rig_open((struct options){0});
  struct ibv_cq *cq = r.cq, *got;
  void *context;
  pthread_t thread;
  EQUAL(ibv_req_notify_cq(cq, 0), 0);
  EQUAL(post_one(&r, 0, IBV_SEND_SIGNALED), 0);
  EQUAL(ibv_get_cq_event(r.channel, &got, &context), 0);
  EQUAL(ibv_destroy_qp(r.qp), 0);
  EQUAL(pthread_create(&thread, NULL, destroy, cq), 0);
  usleep(100000);
  EQUAL(__atomic_load_n(&destroyed, __ATOMIC_ACQUIRE), 0);
  ibv_ack_cq_events(cq, 1);
  EQUAL(pthread_join(thread, NULL), 0);
  EQUAL(destroyed, 1);
  EQUAL(ibv_dereg_mr(r.mr), 0);
  EQUAL(ibv_destroy_comp_channel(r.channel), 0);
  EQUAL(ibv_dealloc_pd(r.pd), 0);
  EQUAL(ibv_close_device(r.context), 0);
}

CHECK(events_of_a_destroyed_cq, "an event that nobody got is forgotten with its CQ") {
  struct rig r = rig_open((struct options){0});
  struct ibv_cq *got, *other = ibv_create_cq(r.context, 4, NULL, r.channel, 0);
  void *context;
  EXPECT(other);
  EQUAL(ibv_req_notify_cq(r.cq, 0), 0);
  EQUAL(post_one(&r, 0, IBV_SEND_SIGNALED), 0);
  EXPECT(readable(r.channel->fd, 1000));
  EQUAL(ibv_destroy_qp(r.qp), 0);
  EQUAL(ibv_destroy_cq(r.cq), 0);
  non_blocking(r.channel->fd);
  EQUAL(ibv_get_cq_event(r.channel, &got, &context), -1);
  EQUAL(errno, EAGAIN);
  EQUAL(ibv_destroy_cq(other), 0);
  EQUAL(ibv_dereg_mr(r.mr), 0);
  EQUAL(ibv_destroy_comp_channel(r.channel), 0);
  EQUAL(ibv_dealloc_pd(r.pd), 0);
  EQUAL(ibv_close_device(r.context), 0);
}

CHECK(a_failed_completion_tells_four_fields,
      "wr_id, status, qp_num and vendor_err of an error are right, the rest is not what a success has") {
  struct rig r = rig_open((struct options){0});
  struct ibv_wc wc;
  memset(&wc, 0, sizeof wc);
  EQUAL(to_state(r.qp, IBV_QPS_ERR), 0);
  EQUAL(post_one(&r, 0x123456789abcdef0, 0), 0);
  EXPECT(completion(r.cq, &wc));
  EXPECT(wc.wr_id == 0x123456789abcdef0);
  EQUAL(wc.status, IBV_WC_WR_FLUSH_ERR);
  EQUAL(wc.qp_num, r.qp->qp_num);
  EQUAL(wc.vendor_err, 0xf9);
  EXPECT(wc.opcode != IBV_WC_SEND && wc.byte_len != 0);
  rig_close(&r);
}

CHECK(extended_cqs, "an extended CQ is read field by field, ENOENT at its end, and frees slots like any other") {
  struct rig r = rig_open((struct options){0});
  struct ibv_cq_init_attr_ex attr = {
      .cqe = 8, .wc_flags = IBV_WC_EX_WITH_QP_NUM | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP, .channel = r.channel};
  struct ibv_poll_cq_attr none = {0};
  struct ibv_cq_ex *cq = ibv_create_cq_ex(r.context, &attr);
  EXPECT(cq && !cq->read_byte_len && cq->read_qp_num);
  EQUAL(ibv_destroy_qp(r.qp), 0);
  struct ibv_qp_init_attr init = qp_init(&r, &(struct options){.depth = 2});
  init.send_cq = ibv_cq_ex_to_cq(cq);
  r.qp = ibv_create_qp(r.pd, &init);
  EXPECT(r.qp);
  to_rts(r.qp);
  EQUAL(ibv_start_poll(cq, &none), ENOENT);
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  for (int i = 0; i < 2; i++) EQUAL(post_one(&r, 40 + i, IBV_SEND_SIGNALED), 0);
  clock_gettime(CLOCK_MONOTONIC, &after);
  EQUAL(post_one(&r, 42, 0), ENOMEM);
  EQUAL(ibv_start_poll(cq, &none), 0);
  EQUAL(cq->wr_id, 40);
  EQUAL(cq->status, IBV_WC_SUCCESS);
  EQUAL(ibv_wc_read_opcode(cq), IBV_WC_SEND);
  EQUAL(ibv_wc_read_qp_num(cq), r.qp->qp_num);
  uint64_t t = ibv_wc_read_completion_ts(cq);
  EXPECT(t >= before.tv_sec * 1000000000ull + before.tv_nsec && t <= after.tv_sec * 1000000000ull + after.tv_nsec);
  EQUAL(ibv_next_poll(cq), 0);
  EQUAL(cq->wr_id, 41);
  EQUAL(ibv_next_poll(cq), ENOENT);
  ibv_end_poll(cq);
  EQUAL(post_one(&r, 42, 0), 0);
  attr.wc_flags = IBV_WC_EX_WITH_TM_INFO;
  errno = 0;
  EXPECT(!ibv_create_cq_ex(r.context, &attr));
  EQUAL(errno, EOPNOTSUPP);
  EQUAL(ibv_destroy_qp(r.qp), 0);
  EQUAL(ibv_destroy_cq(ibv_cq_ex_to_cq(cq)), 0);
  r.qp = ibv_create_qp(r.pd, &(struct ibv_qp_init_attr){.send_cq = r.cq, .recv_cq = r.cq, .qp_type = IBV_QPT_RAW_PACKET});
  rig_close(&r);
}
