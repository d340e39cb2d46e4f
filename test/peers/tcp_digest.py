"""The real spead2 over TCP with many small heaps, and a SHA-256 over the bytes of item 0x3300 in the order of sending or coming.

    tcp_digest.py send '{"port", "flavour", "heaps", "bytes", "packetSize"}'    prints {"heaps", "sha256"}
    tcp_digest.py receive '{"port"}'    prints {"ready"} when it listens, and the same at the stop heap

"pauseSeconds" of receive sleeps that long behind every 100000 heaps.
"""

import hashlib
import json
import logging
import sys
import time

import numpy as np
import spead2
import spead2.recv
import spead2.send

logging.getLogger("spead2").setLevel(logging.ERROR)
SAMPLES = 0x3300
GROUP = 1000


def say(what):
    print(json.dumps(what), flush=True)


def send(port, flavour, heaps, bytes, packetSize=65000):
    flavour = spead2.Flavour(4, 64, flavour, 0)
    config = spead2.send.StreamConfig(max_packet_size=packetSize, max_heaps=GROUP)
    stream = spead2.send.TcpStream(spead2.ThreadPool(), [("127.0.0.1", port)], config)
    values = np.zeros((GROUP, bytes), np.uint8)
    group = []
    for row in values:
        items = spead2.send.ItemGroup(flavour=flavour)
        items.add_item(SAMPLES, "adc_samples", "", shape=(bytes,), dtype=np.uint8, value=row)
        group.append(items.get_heap(descriptors="none", data="all"))
    references = spead2.send.HeapReferenceList([spead2.send.HeapReference(heap) for heap in group])
    rng = np.random.default_rng(flavour.heap_address_bits)
    digest = hashlib.sha256()
    for _ in range(heaps // GROUP):
        values[:] = rng.integers(0, 256, values.shape, np.uint8)
        digest.update(values.tobytes())
        stream.send_heaps(references, spead2.send.GroupMode.SERIAL)
    end = spead2.send.Heap(flavour)
    end.add_end()
    stream.send_heap(end)
    say({"heaps": heaps // GROUP * GROUP, "sha256": digest.hexdigest()})


def receive(port, pauseSeconds=0):
    stream = spead2.recv.Stream(
        spead2.ThreadPool(), spead2.recv.StreamConfig(max_heaps=4), spead2.recv.RingStreamConfig(heaps=256)
    )
    stream.add_tcp_reader(port, bind_hostname="127.0.0.1")
    say({"ready": spead2.__version__})
    digest = hashlib.sha256()
    heaps = 0
    for heap in stream:
        for item in heap.get_items():
            if item.id == SAMPLES:
                digest.update(item)
                heaps += 1
                if pauseSeconds and heaps % 100000 == 0:
                    time.sleep(pauseSeconds)
    say({"heaps": heaps, "sha256": digest.hexdigest()})


{"send": send, "receive": receive}[sys.argv[1]](**json.loads(sys.argv[2]))
