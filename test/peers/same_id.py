"""What spead2 takes of heaps in which an id stands twice: same_id.py ID HEX... prints, per heap, the item's bytes as an item group has them.

The packets are given as hexadecimal digits. The item is described as bytes of any number.
"""

import sys

import numpy as np
import spead2
import spead2.recv

ITEM = int(sys.argv[1], 0)
stream = spead2.recv.Stream(spead2.ThreadPool(), spead2.recv.StreamConfig(max_heaps=64))
queue = spead2.InprocQueue()
for packet in sys.argv[2:]:
    queue.add_packet(bytes.fromhex(packet))
queue.stop()
stream.add_inproc_reader(queue)
for heap in sorted(stream, key=lambda heap: heap.cnt):
    group = spead2.ItemGroup()
    group.add_item(ITEM, "item", "", shape=(None,), format=[("u", 8)])
    group.update(heap)
    print(np.asarray(group["item"].value, np.uint8).tobytes().hex())
