/*
 * Where spead2's chunk receiver (spead2_recv.py) puts a heap: called for the first packet of each, once the data's layout is known. A
 * chunk holds `heaps` heaps of `heap_bytes` in order of their cnts; heaps of other lengths, descriptors and the end, are not placed.
 * The struct is spead2's chunk_place_data, its first six fields.
 */
#include <stddef.h>
#include <stdint.h>

struct chunk_place_data {
  const uint8_t *packet;
  size_t packet_size;
  const int64_t *items;
  int64_t chunk_id;
  size_t heap_index;
  size_t heap_offset;
};

struct layout {
  int64_t heap_bytes, heaps;
};

/* items: heap cnt, heap length */
void place(void *data, size_t size, void *user) {
  struct chunk_place_data *d = data;
  const struct layout *layout = user;
  if (size < sizeof *d || d->items[1] != layout->heap_bytes) return;
  d->chunk_id = d->items[0] / layout->heaps;
  d->heap_index = d->items[0] % layout->heaps;
  d->heap_offset = d->heap_index * layout->heap_bytes;
}
