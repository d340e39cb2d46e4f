/*
 * Completion channels and async events. The rules kept here:
 * - an event is read from a pollable fd and honours its O_NONBLOCK (ibv_get_cq_event(3), ibv_get_async_event(3));
 * - every event that was got must be acknowledged: destroying its CQ or queue pair waits until then;
 * - a channel with CQs on it cannot be destroyed (EBUSY);
 * - once a device is gone and its last events are read, ibv_get_async_event fails with EIO.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "softnic.h"

int event_queue_open(struct event_queue *queue) {
  memset(queue, 0, sizeof *queue);
  queue->fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
  pthread_mutex_init(&queue->mutex, NULL);
  return queue->fd;
}

void event_queue_close(struct event_queue *queue) {
  close(queue->fd);
  free(queue->events);
  pthread_mutex_destroy(&queue->mutex);
}

/* With the queue's mutex held. */
static void grow(struct event_queue *queue) {
  uint32_t capacity = queue->capacity ? 2 * queue->capacity : 16;
  struct event *events = malloc(capacity * sizeof *events);
  if (!events) abort();
  uint32_t n = 0;
  for (uint32_t i = queue->head; i != queue->tail; i++) events[n++] = queue->events[i & (queue->capacity - 1)];
  free(queue->events);
  queue->events = events;
  queue->capacity = capacity;
  queue->head = 0;
  queue->tail = n;
}

void event_push(struct event_queue *queue, void *element, int type) {
  pthread_mutex_lock(&queue->mutex);
  if (queue->tail - queue->head == queue->capacity) grow(queue);
  queue->events[queue->tail++ & (queue->capacity - 1)] = (struct event){element, type};
  pthread_mutex_unlock(&queue->mutex);
  uint64_t one = 1;
  ssize_t written = write(queue->fd, &one, sizeof one);
  (void)written; /* fails only when 2^64 events are waiting */
}

void event_forget(struct event_queue *queue, void *element) {
  pthread_mutex_lock(&queue->mutex);
  uint32_t kept = queue->head;
  for (uint32_t i = queue->head; i != queue->tail; i++) {
    struct event event = queue->events[i & (queue->capacity - 1)];
    if (event.element != element) queue->events[kept++ & (queue->capacity - 1)] = event;
  }
  queue->tail = kept;
  pthread_mutex_unlock(&queue->mutex);
}

/* Returns 0 with an event and raises its `count` by one, or returns -1 with errno as read(2) sets it. */
static int pop(struct event_queue *queue, struct event *event, uint32_t *(*count)(const struct event *)) {
  for (;;) {
    uint64_t one;
    if (read(queue->fd, &one, sizeof one) < 0) return -1;
    pthread_mutex_lock(&queue->mutex);
    bool found = queue->head != queue->tail;
    if (found) {
      *event = queue->events[queue->head++ & (queue->capacity - 1)];
      uint32_t *n = count(event);
      if (n) ++*n;
    }
    pthread_mutex_unlock(&queue->mutex);
    if (found) return 0;
    /* The event that the fd announced was dropped meanwhile. */
  }
}

static bool empty(struct event_queue *queue) {
  pthread_mutex_lock(&queue->mutex);
  bool none = queue->head == queue->tail;
  pthread_mutex_unlock(&queue->mutex);
  return none;
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *context) {
  if (dead(context)) {
    errno = EIO;
    return NULL;
  }
  struct channel *channel = calloc(1, sizeof *channel);
  if (!channel || event_queue_open(&channel->queue) < 0) {
    free(channel);
    return NULL;
  }
  channel->base.context = context;
  channel->base.fd = channel->queue.fd;
  report_made(CHANNELS);
  return &channel->base;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *base) {
  struct channel *channel = to_channel(base);
  if (load(&base->refcnt)) return EBUSY;
  event_queue_close(&channel->queue);
  free(channel);
  report_gone(CHANNELS);
  return 0;
}

static uint32_t *comp_count(const struct event *event) {
  return &((struct cq *)event->element)->comp_events;
}

int ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **cq_context) {
  struct event event;
  if (pop(&to_channel(channel)->queue, &event, comp_count) < 0) return -1;
  *cq = event.element;
  *cq_context = (*cq)->cq_context;
  return 0;
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned int n) {
  pthread_mutex_lock(&cq->mutex);
  cq->comp_events_completed += n;
  pthread_cond_signal(&cq->cond);
  pthread_mutex_unlock(&cq->mutex);
}

static uint32_t *async_count(const struct event *event) {
  switch (event->type) {
    case IBV_EVENT_CQ_ERR: return &((struct cq *)event->element)->async_events;
    case IBV_EVENT_QP_FATAL: return &((struct qp *)event->element)->async_events;
    default: return NULL;
  }
}

int ibv_get_async_event(struct ibv_context *context, struct ibv_async_event *out) {
  struct context *c = to_context(context);
  struct event event;
  if (dead(context) && empty(&c->async)) {
    errno = EIO;
    return -1;
  }
  if (pop(&c->async, &event, async_count) < 0) return -1;
  out->event_type = event.type;
  if (event.type == IBV_EVENT_PORT_ERR || event.type == IBV_EVENT_PORT_ACTIVE) out->element.port_num = PORT;
  else out->element.cq = event.element;
  return 0;
}

void ibv_ack_async_event(struct ibv_async_event *event) {
  if (event->event_type == IBV_EVENT_CQ_ERR) {
    struct ibv_cq *cq = event->element.cq;
    pthread_mutex_lock(&cq->mutex);
    cq->async_events_completed++;
    pthread_cond_signal(&cq->cond);
    pthread_mutex_unlock(&cq->mutex);
  } else if (event->event_type == IBV_EVENT_QP_FATAL) {
    struct ibv_qp *qp = event->element.qp;
    pthread_mutex_lock(&qp->mutex);
    qp->events_completed++;
    pthread_cond_signal(&qp->cond);
    pthread_mutex_unlock(&qp->mutex);
  }
}
