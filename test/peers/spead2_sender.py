"""The real spead2 as a sender: heaps over real sockets, and on stdout what was in them, one JSON object per line.

    spead2_sender.py '{"to": [["127.0.0.1", 7148]], "kind": "types", ...}'

Contents are told by spead2's own receiver, fed from memory with the same heaps' packets, never by us: {"heap": {cnt, items, ...}}.
The last line is {"done": {heaps, packets, udpBytes, payloadBytes, sha256}}.

kind        "types": `heaps` heaps of every kind of item the flavour can hold, new values each; "tutorial": `heaps` heaps of
            `heapSize` int8 samples, all bytes the heap index, with a timestamp; "heaps" lines are then left out
wire        "stream": spead2.send.UdpStream. "tcp": spead2.send.TcpStream, to one endpoint. "ibverbs": spead2.send.UdpIbvStream, to multicast groups only, from the device of `interface`.
            "packets": PacketGenerator's bytes through a plain socket, which can also
            "order": "reverse" | "shuffle" (packets of `window` heaps mixed), "duplicate": n of them, "drop": [[heap, packet], ...],
            "garbage": n foreign datagrams, "truncate": n copies cut short, "gso": true hands runs of equal packets to the kernel at once
            (UDP_SEGMENT), which a receiver with UDP_GRO gets as one
other       flavour (bits, 48), bugCompat (flags, 0), packetSize, rate (bytes/s), repeatPointers, descriptors ("first" heap of its own | "each" heap | "none"),
            stop (true), firstCnt, cntStep, corrupt ([heap, ...]), roundRobin, ttl, interface (address), interfaceIndex, seed
"""

import base64
import hashlib
import json
import logging
import random
import socket
import struct
import sys
import time

import numpy as np
import spead2
import spead2.recv
import spead2.send

logging.getLogger("spead2").setLevel(logging.ERROR)
POOL = spead2.ThreadPool()


def told_by_spead2(packets, bug_compat):
    """What spead2's receiver finds in one heap's packets."""
    queue = spead2.InprocQueue()
    for packet in packets:
        queue.add_packet(packet)
    queue.stop()
    stream = spead2.recv.Stream(
        POOL,
        spead2.recv.StreamConfig(max_heaps=4, stop_on_stop_item=False, allow_out_of_order=True, bug_compat=bug_compat),
        spead2.recv.RingStreamConfig(heaps=8, contiguous_only=False),
    )
    stream.add_inproc_reader(queue)
    (heap,) = list(stream)
    stream.stop()
    items = [
        {
            "id": raw.id,
            "immediate": raw.is_immediate,
            "bytes": base64.b64encode(np.array(raw, np.uint8, copy=False).tobytes()).decode("ascii"),
        }
        for raw in heap.get_items()
        if raw.id > 6
    ]
    descriptors = []
    group = spead2.ItemGroup()
    for raw in heap.get_descriptors():
        item = spead2.Descriptor.from_raw(raw, heap.flavour)
        group._add_item(spead2.Item.from_raw(raw, heap.flavour))
        descriptors.append(
            {
                "id": item.id,
                "name": item.name,
                "description": item.description,
                "shape": list(item.shape),
                "order": item.order,
                "dtype": None if raw.numpy_header == b"" else item.dtype.str if item.dtype.names is None else str(item.dtype),
                "format": [] if item.format is None else [[code, bits] for code, bits in item.format],
            }
        )
    return {
        "cnt": str(heap.cnt),
        "heapAddressBits": heap.flavour.heap_address_bits,
        "start": heap.is_start_of_stream(),
        "stop": heap.is_end_of_stream(),
        "packets": len(packets),
        "items": items,
        "descriptors": descriptors,
    }


def type_items(flavour_bits):
    """(name, keywords of add_item, function of a numpy Generator giving a value)."""
    if flavour_bits == 8:  # a heap has at most 255 bytes
        return [
            ("bytes", {"shape": (40,), "dtype": "u1"}, lambda r: r.integers(0, 256, 40, "u1")),
            ("scalar", {"shape": (), "dtype": "i1"}, lambda r: r.integers(-128, 128, (), "i1")),
        ]
    items = []
    for dtype in ["i1", "u1", "<i2", ">u2", "<i4", ">u4", "<i8", ">u8", "<f2", ">f4", "<f8", "<c8", ">c16", "?", "S5", "<U3"]:
        kind = np.dtype(dtype)

        def value(r, kind=kind, shape=(3, 2)):
            if kind.kind == "?" or kind.kind == "b":
                return r.integers(0, 2, shape).astype(kind)
            if kind.kind in "SU":
                return np.array([["ab", "c"], ["", "xyz"], ["q", "rs"]], dtype=kind)
            return np.frombuffer(r.bytes(6 * kind.itemsize), dtype=kind).reshape(shape)

        items.append((f"array {dtype}", {"shape": (3, 2), "dtype": dtype}, value))
        if kind.kind not in "SU":
            items.append((f"scalar {dtype}", {"shape": (), "dtype": dtype}, lambda r, v=value: v(r)[0, 0]))
    struct = np.dtype([("x", "<i2"), ("y", ">f8", (2,)), ("z", [("re", "i1"), ("im", "i1")])])
    items += [
        ("struct", {"shape": (3,), "dtype": struct}, lambda r: np.frombuffer(r.bytes(3 * struct.itemsize), struct)),
        ("fortran", {"shape": (4, 5), "dtype": "<f4", "order": "F"}, lambda r: np.asfortranarray(r.random((4, 5), "f4"))),
        ("empty", {"shape": (0,), "dtype": "<f4"}, lambda r: np.zeros(0, "f4")),
        ("long", {"shape": (3001,), "dtype": "<u2"}, lambda r: r.integers(0, 65536, 3001, "u2")),
        ("u12", {"shape": (7,), "format": [("u", 12)]}, lambda r: r.integers(0, 4096, 7)),
        ("f32 format", {"shape": (3,), "format": [("f", 32)]}, lambda r: r.random(3, "f4")),
        ("mixed", {"shape": (2,), "format": [("u", 4), ("f", 64)]}, lambda r: [(int(r.integers(16)), 0.5), (3, -2.0)]),
        ("text", {"shape": (None,), "format": [("c", 8)]}, lambda r: "variable " * int(r.integers(1, 5))),
        ("no text", {"shape": (None,), "format": [("c", 8)]}, lambda r: ""),
        ("rows", {"shape": (None, 3), "format": [("u", 16)]}, lambda r: r.integers(0, 65536, (int(r.integers(1, 6)), 3))),
        ("u48", {"shape": (), "format": [("u", 48)]}, lambda r: int(r.integers(2**40))),
    ]
    return items


def make_heaps(spec):
    """Yields (heap, cnt, is data, samples or None)."""
    bits = spec.get("flavour", 48)
    flavour = spead2.Flavour(4, 64, bits, spec.get("bugCompat", 0))
    rng = np.random.default_rng(spec.get("seed", 1))
    step = spec.get("cntStep", 1)
    cnt = spec.get("firstCnt", 1)
    how = spec.get("descriptors", "first")
    group = spead2.send.ItemGroup(flavour=flavour)
    tutorial = spec["kind"] == "tutorial"
    if tutorial:
        group.add_item(0x1600, "timestamp", "Index of the first sample", shape=(), format=[("u", 48)])
        group.add_item(0x3300, "adc_samples", "ADC converter output", shape=(spec["heapSize"],), dtype=np.int8)
        values = []
    else:
        values = type_items(bits)
        base = 0x20 if bits == 56 else 0x1000
        for i, (name, keywords, _) in enumerate(values):
            group.add_item(base + i, name, f"the item {name}", **keywords)
    if how == "first":
        yield group.get_heap(descriptors="all", data="none"), cnt, False, None
        cnt += step
    for i in range(spec["heaps"]):
        samples = None
        if tutorial:
            samples = np.full(spec["heapSize"], np.uint8(i & 0xFF)).view(np.int8)
            if i in spec.get("corrupt", []):
                samples[len(samples) // 2] ^= 1
            group["timestamp"].value = i * spec["heapSize"]
            group["adc_samples"].value = samples
        else:
            for name, _, value in values:
                group[name].value = value(rng)
        heap = group.get_heap(descriptors="all" if how == "each" else "none", data="all")
        heap.repeat_pointers = spec.get("repeatPointers", False)
        yield heap, cnt, True, samples
        cnt += step
    if spec.get("stop", True):
        for k in range(len(spec["to"])):
            end = spead2.send.Heap(flavour)
            end.add_end()
            yield end, cnt, False, None
            cnt += step


def say(line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def open_stream(spec):
    config = spead2.send.StreamConfig(max_packet_size=spec["packetSize"], rate=spec.get("rate", 0), max_heaps=64)
    to = [tuple(endpoint) for endpoint in spec["to"]]
    if spec.get("wire") == "ibverbs":
        return spead2.send.UdpIbvStream(POOL, config, spead2.send.UdpIbvConfig(endpoints=to, interface_address=spec["interface"]))
    if spec.get("wire") == "tcp":
        return spead2.send.TcpStream(POOL, to, config)
    where = {k: spec[j] for j, k in [("ttl", "ttl"), ("interface", "interface_address"), ("interfaceIndex", "interface_index")] if j in spec}
    return spead2.send.UdpStream(POOL, to, config, **where)


def send_by_stream(spec, heaps):
    stream = open_stream(spec)
    n = len(spec["to"])
    total = 0
    index = 0
    group = []
    for heap, cnt, data, _ in heaps:
        # Descriptors and stop heaps go to every substream in turn, data heap i to substream i mod n.
        if spec.get("roundRobin") and data:
            group.append(spead2.send.HeapReference(heap, cnt=cnt, substream_index=index % n))
            if len(group) == 16:
                total += stream.send_heaps(group, spead2.send.GroupMode.ROUND_ROBIN)
                group = []
            index += 1
            continue
        if group:
            total += stream.send_heaps(group, spead2.send.GroupMode.ROUND_ROBIN)
            group = []
        if data:
            substream = index % n
            index += 1
        else:
            substream = 0 if index == 0 else (cnt // spec.get("cntStep", 1)) % n
        total += stream.send_heap(heap, cnt=cnt, substream_index=substream)
    if group:
        total += stream.send_heaps(group, spead2.send.GroupMode.ROUND_ROBIN)
    return total


def runs(packets):
    """Runs that one UDP_SEGMENT message can carry: equal sizes but for a shorter last one, at most 64 segments and 65507 bytes."""
    run = []
    for packet in packets:
        fits = run and len(packet) <= len(run[0]) == len(run[-1]) and len(run) < 64 and sum(map(len, run)) + len(packet) <= 65507
        if run and not fits:
            yield run
            run = []
        run.append(bytes(packet))
    if run:
        yield run


def send_by_packets(spec, heaps):
    rng = random.Random(spec.get("seed", 1))
    host, port = spec["to"][0]
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    dropped = {tuple(pair) for pair in spec.get("drop", [])}
    window = []
    total = 0
    since = 0
    data_index = 0

    def flush():
        nonlocal total, since
        order = spec.get("order")
        if order == "reverse":
            window.reverse()
        elif order == "shuffle":
            rng.shuffle(window)
        extra = [p for p in window if len(p) > 60]
        for k in range(min(spec.get("duplicate", 0), len(extra))):
            window.insert(rng.randrange(len(window) + 1), extra[k])
        for k in range(min(spec.get("truncate", 0), len(extra))):
            window.insert(rng.randrange(len(window) + 1), extra[k][: rng.randrange(1, len(extra[k]))])
        for _ in range(spec.get("garbage", 0)):
            junk = rng.randbytes(rng.randrange(0, 200))
            if rng.random() < 0.5:
                junk = b"\x53\x04\x02\x06\x00\x00" + junk  # looks like SPEAD-64-48 for a while
            window.insert(rng.randrange(len(window) + 1), junk)
        for run in runs(window) if spec.get("gso") else [[packet] for packet in window]:
            control = [(17, 103, struct.pack("H", len(run[0])))] if len(run) > 1 else []
            sent = sock.sendmsg(run, control, 0, (host, port))
            total += sent
            since += sent
            if since > 100_000:  # gentle: loss would be the test's, not the receiver's
                time.sleep(0.002)
                since = 0
        window.clear()

    for number, (heap, cnt, data, _) in enumerate(heaps):
        packets = list(spead2.send.PacketGenerator(heap, cnt, spec["packetSize"]))
        for k, packet in enumerate(packets):
            if not (data and (data_index, k) in dropped):
                window.append(packet)
        if data:
            data_index += 1
        if not data or data_index % spec.get("window", 1) == 0:
            flush()
    flush()
    return total


def main():
    spec = json.loads(sys.argv[1])
    heaps = list(make_heaps(spec))
    packets = 0
    payload = 0
    digest = hashlib.sha256()
    for heap, cnt, data, samples in heaps:
        if samples is not None:
            packets += sum(1 for _ in spead2.send.PacketGenerator(heap, cnt, spec["packetSize"]))
            payload += samples.nbytes
            digest.update(samples.tobytes())
        else:
            own = [bytes(p) for p in spead2.send.PacketGenerator(heap, cnt, spec["packetSize"])]
            packets += len(own)
            say({"heap": told_by_spead2(own, spec.get("bugCompat", 0))})
    send = send_by_packets if spec.get("wire") == "packets" else send_by_stream
    total = send(spec, heaps)
    say(
        {
            "done": {
                "spead2": spead2.__version__,
                "heaps": sum(1 for _, _, data, _ in heaps if data),
                "packets": packets,
                "udpBytes": total,
                "payloadBytes": payload,
                "sha256": digest.hexdigest(),
            }
        }
    )


main()
