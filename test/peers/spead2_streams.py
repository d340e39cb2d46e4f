"""Random streams of the real spead2, and what spead2's own receiver makes of them after loss, repetition and reordering.

    spead2_streams.py FIRST_SEED STREAMS

Writes one JSON object a line: {"seed", "packets": [base64, ...], "heaps": [{"cnt", "items": [{"id", "immediate", "bytes"}]}]}, where
`packets` are in the order in which they went to spead2's receiver, and `heaps` are those that it found complete, by cnt. Every stream ends
with a stop heap. Half of the streams come from PacketGenerator, half from spead2's UDP sender over a real socket.
"""

import base64
import json
import logging
import random
import socket
import sys

import numpy as np
import spead2
import spead2.recv
import spead2.send

logging.getLogger("spead2").setLevel(logging.CRITICAL)
POOL = spead2.ThreadPool()
DTYPES = ["i1", "u1", "<i2", ">u2", "<u4", ">i4", "<f4", ">f8", "<c8", "S4"]


def items_of(rng, bits, seed):
    """Items that the flavour can hold: (id, keywords of add_item, function that draws a value). The next 50 streams describe other ids."""
    numpy_rng = np.random.default_rng(rng.randrange(2**32))
    found = []
    base = 0x20 if bits == 56 else 0x1000 + seed % 50 * 8
    for k in range(rng.randrange(1, 5)):
        dtype = np.dtype(rng.choice(DTYPES))
        shape = rng.choice([(), (1,), (5,), (3, 4), (300,), (17, 23), (1500,)])
        if bits <= 16:
            shape = rng.choice([(), (5,)])
        if rng.random() < 0.2 and bits >= 24:
            width = rng.choice([4, 10, 12, 24, 48])
            shape = rng.choice([(), (8,), (31,)])
            if width > bits:
                width = 12

            def value(shape=shape, width=width):
                return numpy_rng.integers(0, 2**width, shape) if shape else int(numpy_rng.integers(0, 2**width))

            keywords = {"shape": shape, "format": [("u", width)]}
        else:

            def value(shape=shape, dtype=dtype):
                count = int(np.prod(shape, dtype=int))
                raw = numpy_rng.integers(1, 100, count * dtype.itemsize, dtype=np.uint8).tobytes()
                return np.frombuffer(raw, dtype).reshape(shape)

            keywords = {"shape": shape, "dtype": dtype}
        found.append((base + k, keywords, value))
    return found


def stream(seed):
    rng = random.Random(seed)
    # SPEAD-64-56 has 127 ids.
    bits = rng.choice([48, 48, 40, 40, 56 if seed % 50 < 12 else 48, 32, 24])
    flavour = spead2.Flavour(4, 64, bits)
    group = spead2.send.ItemGroup(flavour=flavour)
    items = items_of(rng, bits, seed)
    for id, keywords, _ in items:
        group.add_item(id, f"item {id:x}", "drawn", **keywords)
    size = rng.choice([100, 300, 1472, 1472, 8972])
    cnt = rng.choice([1, 1, 1, 1000, 2 ** min(bits, 40) - 200])
    step = rng.choice([1, 1, 1, 2, 7])
    heaps = []
    for k in range(rng.randrange(1, 12)):
        for id, _, value in items:
            group[id].value = value()
        heap = group.get_heap(descriptors="all" if k == 0 or rng.random() < 0.1 else "none", data="all")
        heap.repeat_pointers = size > 100 and rng.random() < 0.3
        heaps.append((heap, cnt))
        cnt += step
    plain = rng.random() < 0.5
    if plain:
        packets = [bytes(p) for heap, number in heaps for p in spead2.send.PacketGenerator(heap, number, size)]
    else:
        packets = sent_by_spead2(heaps, size)
    last = [bytes(p) for p in spead2.send.PacketGenerator(group.get_end(), cnt, size)]
    return disturbed(rng, packets) + last


def sent_by_spead2(heaps, size):
    """The datagrams of spead2's UDP sender, caught by a socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 26)
        config = spead2.send.StreamConfig(max_packet_size=size, max_heaps=64)
        stream = spead2.send.UdpStream(POOL, [sock.getsockname()], config)
        packets = []
        for heap, number in heaps:
            # One heap fits any socket buffer, and over loopback it is there when send_heap returns.
            stream.send_heap(heap, number)
            while True:
                try:
                    packets.append(sock.recv(65536, socket.MSG_DONTWAIT))
                except BlockingIOError:
                    break
        return packets


def disturbed(rng, packets):
    """Loses, repeats and reorders. Three streams of ten stay as they were."""
    if rng.random() < 0.3:
        return packets
    loss = rng.choice([0, 0, 0.02, 0.2])
    again = rng.choice([0, 0, 0.02, 0.2])
    reach = rng.choice([0, 0, 2, 10, 1000])
    kept = [(k + rng.random() * reach, p) for k, p in enumerate(packets) if rng.random() >= loss]
    kept += [(at + rng.random() * 20, p) for at, p in kept if rng.random() < again]
    return [p for _, p in sorted(kept, key=lambda pair: pair[0])]


def received_by_spead2(packets):
    """The complete heaps that spead2's receiver finds, by cnt. A heap that came twice whole is told once, as we do."""
    queue = spead2.InprocQueue()
    for packet in packets:
        queue.add_packet(packet)
    queue.stop()
    config = spead2.recv.StreamConfig(max_heaps=256, stop_on_stop_item=False, allow_out_of_order=True)
    stream = spead2.recv.Stream(POOL, config, spead2.recv.RingStreamConfig(heaps=1024, contiguous_only=True))
    stream.add_inproc_reader(queue)
    found = {}
    for heap in stream:
        if heap.is_end_of_stream():
            continue
        found[heap.cnt] = [
            {
                "id": raw.id,
                "immediate": raw.is_immediate,
                "bytes": base64.b64encode(np.array(raw, np.uint8, copy=False).tobytes()).decode("ascii"),
            }
            for raw in heap.get_items()
            if raw.id > 6
        ]
    stream.stop()
    return [{"cnt": str(cnt), "items": items} for cnt, items in sorted(found.items())]


def main():
    first, streams = int(sys.argv[1]), int(sys.argv[2])
    for seed in range(first, first + streams):
        packets = stream(seed)
        told = {
            "seed": seed,
            "packets": [base64.b64encode(p).decode("ascii") for p in packets],
            "heaps": received_by_spead2(packets),
        }
        sys.stdout.write(json.dumps(told) + "\n")


main()
