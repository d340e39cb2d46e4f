"""CPU per packet of spead2's ibverbs sender: prepared heaps of one packet each (8192 bytes) in groups, sent again and again.

usage: verbs_spead2.py INTERFACE_ADDRESS GROUP:PORT PACKETS GROUP_HEAPS. Prints one JSON row.
"""

import json
import sys
import time

import numpy as np
import spead2
import spead2.send

HEAP_BYTES = 8192
interface, to, packets, group = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
host, port = to.rsplit(":", 1)
samples = np.zeros((group, HEAP_BYTES), np.int8)
timestamps = np.zeros(group, ">u8")
stream = spead2.send.UdpIbvStream(
    spead2.ThreadPool(),
    spead2.send.StreamConfig(rate=0.0, max_packet_size=9000, max_heaps=2 * group),
    spead2.send.UdpIbvConfig(endpoints=[(host, int(port))], interface_address=interface, memory_regions=[samples]),
)
items = spead2.send.ItemGroup(flavour=spead2.Flavour(4, 64, 48))
items.add_item(0x1600, "timestamp", "Index of the first sample", shape=(), format=[("u", 48)])
items.add_item(0x3300, "adc_samples", "ADC converter output", shape=(HEAP_BYTES,), dtype=np.int8)
heaps = []
for j in range(group):
    items["timestamp"].value = timestamps[j, ...]
    items["adc_samples"].value = samples[j, ...]
    heaps.append(spead2.send.HeapReference(items.get_heap(descriptors="none", data="all")))
prepared = spead2.send.HeapReferenceList(heaps)


def run(total: int) -> None:
    for _ in range(0, total, group):
        stream.send_heaps(prepared, spead2.send.GroupMode.SERIAL)


run(packets // 10)
cpu = time.process_time()
run(packets)
cpu = time.process_time() - cpu
print(json.dumps({"program": "spead2", "chain": group, "nanosecondsPerPacket": cpu * 1e9 / packets}))
