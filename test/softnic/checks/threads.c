/* Several threads on one queue pair and one CQ. */
#include "check.h"

#include <pthread.h>
#include <sched.h>

enum { POSTERS = 3, WRS = 20000 };

static struct rig rig;
static int polled;

static void *poster(void *argument) {
  uint64_t first = (uint64_t)(uintptr_t)argument * WRS;
  for (uint64_t i = 0; i < WRS;) {
    int error = post_one(&rig, first + i, IBV_SEND_SIGNALED);
    if (error && error != ENOMEM) EQUAL(error, 0);
    if (error) sched_yield();
    else i++;
  }
  return NULL;
}

static uint8_t seen[POSTERS * WRS];

static void *poller(void *argument) {
  struct ibv_wc wc[16];
  while (__atomic_load_n(&polled, __ATOMIC_RELAXED) < POSTERS * WRS) {
    int n = ibv_poll_cq(rig.cq, 16, wc);
    for (int i = 0; i < n; i++)
      if (wc[i].status || wc[i].wr_id >= sizeof seen || __atomic_fetch_add(&seen[wc[i].wr_id], 1, __ATOMIC_RELAXED))
        EXPECT(!"a completion is wrong or came twice");
    __atomic_fetch_add(&polled, n, __ATOMIC_RELAXED);
    if (!n) sched_yield();
  }
  return argument;
}

CHECK(threads_share_queues,
      "three threads post to one queue pair and two poll its CQ: every WR completes once, and depth and CQ hold") {
  pthread_t threads[POSTERS + 2];
  rig = rig_open((struct options){.depth = 32, .cqe = 32});
  for (int i = 0; i < POSTERS; i++) EQUAL(pthread_create(&threads[i], NULL, poster, (void *)(uintptr_t)i), 0);
  for (int i = 0; i < 2; i++) EQUAL(pthread_create(&threads[POSTERS + i], NULL, poller, NULL), 0);
  for (int i = 0; i < POSTERS + 2; i++) EQUAL(pthread_join(threads[i], NULL), 0);
  EQUAL(polled, POSTERS * WRS);
  EXPECT(!readable(rig.context->async_fd, 0));
  rig_close(&rig);
}

CHECK(threads_share_a_paced_queue, "the same while another thread of the NIC executes what was posted") {
  pthread_t threads[POSTERS + 2];
  faults("pace 1000000000");
  rig = rig_open((struct options){.depth = 32, .cqe = 32});
  for (int i = 0; i < POSTERS; i++) EQUAL(pthread_create(&threads[i], NULL, poster, (void *)(uintptr_t)i), 0);
  for (int i = 0; i < 2; i++) EQUAL(pthread_create(&threads[POSTERS + i], NULL, poller, NULL), 0);
  for (int i = 0; i < POSTERS + 2; i++) EQUAL(pthread_join(threads[i], NULL), 0);
  EQUAL(polled, POSTERS * WRS);
  rig_close(&rig);
}
