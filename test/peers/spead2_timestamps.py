"""The real spead2 as a receiver of heaps with immediate timestamps (item 0x1600) of any number of senders, as one stream.

spead2_timestamps.py ADDRESS PORT HEAPS SECONDS

Prints 'ready' when it listens, and [[cnt, timestamp], ...] as JSON in the order of arrival after so many heaps, or after so many seconds.
"""
import json
import sys
import threading

import spead2
import spead2.recv

address, port, heaps, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
config = spead2.recv.StreamConfig(max_heaps=64)
stream = spead2.recv.Stream(spead2.ThreadPool(), config, spead2.recv.RingStreamConfig(heaps=heaps + 64))
stream.add_udp_reader(port, max_size=9000, buffer_size=16 << 20, bind_hostname=address)
print("ready", flush=True)
timer = threading.Timer(seconds, stream.stop)
timer.daemon = True
timer.start()
seen = []
for heap in stream:
    stamps = [item.immediate_value for item in heap.get_items() if item.id == 0x1600]
    if stamps:
        seen.append([heap.cnt, stamps[0]])
    if len(seen) == heaps:
        break
print(json.dumps(seen), flush=True)
