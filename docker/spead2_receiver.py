"""spead2 as a receiver: counts heaps, checks the tutorial's pattern or hashes samples, and prints one JSON object at the end.

    spead2_receiver.py HOST:PORT... [--interface NAME] [--stops N] [--timeout SECONDS] [--verify | --hash]

Multicast groups are joined on the interface (default eth0). It ends after N stop heaps (default one for each endpoint), at SIGTERM, or at
the timeout, then with status 1. --verify: every byte of adc_samples is the heap's index, and timestamp the index of its first sample.
--hash: sha256 of adc_samples in the order of timestamp. --healthy: status 0 while another process of this program listens.
"""

import argparse
import hashlib
import ipaddress
import json
import signal
import socket
import struct
import sys
import threading

import numpy as np

SO_RCVBUFFORCE = 33
READY = "/tmp/spead2_receiver.ready"


def parse(endpoint):
    host, port = endpoint.rsplit(":", 1)
    return ipaddress.ip_address(host.strip("[]")), int(port)


def open_socket(address, port, interface):
    v6 = address.version == 6
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    except PermissionError:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
    s.bind((str(address), port))
    if address.is_multicast:
        index = socket.if_nametoindex(interface)
        if v6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, address.packed + struct.pack("@I", index))
        else:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, address.packed + struct.pack("@4si", bytes(4), index))
    return s


class Receiver:
    def __init__(self, args):
        import spead2
        import spead2.recv

        self.spead2 = spead2
        self.args = args
        self.stops_left = args.stops or len(args.endpoints)
        self.heaps = self.incomplete = self.corrupt = self.payload_bytes = 0
        self.examples = []
        self.pieces = {}
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.streams = []
        for endpoint in args.endpoints:
            # A sender that is held up in the middle of a heap must not lose it to the heaps of the others meanwhile.
            config = spead2.recv.StreamConfig(max_heaps=64, stop_on_stop_item=False)
            ring = spead2.recv.RingStreamConfig(heaps=256, contiguous_only=False)
            stream = spead2.recv.Stream(spead2.ThreadPool(), config, ring)
            stream.add_udp_reader(open_socket(*parse(endpoint), args.interface), max_size=65536)
            self.streams.append(stream)
            threading.Thread(target=self.run, args=(stream,), daemon=True).start()

    def run(self, stream):
        group = self.spead2.ItemGroup()
        for heap in stream:
            with self.lock:
                self.take(heap, group)

    def take(self, heap, group):
        if isinstance(heap, self.spead2.recv.IncompleteHeap):
            self.incomplete += 1
            if len(self.examples) < 8:
                self.examples.append({"cnt": heap.cnt, "bytes": heap.heap_length, "received": heap.received_length})
            return
        updated = group.update(heap)
        if heap.is_end_of_stream():
            self.stops_left -= 1
            if self.stops_left == 0:
                self.over.set()
            return
        if "adc_samples" not in updated or "timestamp" not in updated:
            return
        samples = np.asarray(updated["adc_samples"].value)
        timestamp = int(updated["timestamp"].value)
        self.heaps += 1
        self.payload_bytes += samples.nbytes
        if self.args.hash:
            self.pieces[timestamp] = samples.tobytes()
        if self.args.verify:
            index, rest = divmod(timestamp, samples.size)
            if rest != 0 or not np.all(samples == np.uint8(index & 0xFF).astype(np.int8)):
                self.corrupt += 1

    def dropped(self):
        """Packets that found the socket buffers full, by the kernel's tables."""
        ports = {f"{parse(endpoint)[1]:04X}" for endpoint in self.args.endpoints}
        rows = [line.split() for name in ("udp", "udp6") for line in open(f"/proc/net/{name}").readlines()[1:]]
        return sum(int(row[-1]) for row in rows if row[1].rsplit(":", 1)[1] in ports)

    def summary(self):
        with self.lock:
            done = {
                "ended": self.stops_left <= 0,
                "heaps": self.heaps,
                "heapsIncomplete": self.incomplete,
                "heapsCorrupt": self.corrupt,
                "payloadBytes": self.payload_bytes,
                "droppedByKernel": self.dropped(),
                "incompleteExamples": self.examples,
                "spead2": self.spead2.__version__,
            }
            if self.args.hash:
                whole = hashlib.sha256()
                for timestamp in sorted(self.pieces):
                    whole.update(self.pieces[timestamp])
                done["sha256"] = whole.hexdigest()
            return done


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoints", nargs="*")
    parser.add_argument("--interface", default="eth0")
    parser.add_argument("--stops", type=int)
    parser.add_argument("--timeout", type=float, default=None)
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--hash", action="store_true")
    parser.add_argument("--healthy", action="store_true")
    args = parser.parse_args()
    if args.healthy:
        with open(READY) as f:
            port = int(f.read())
        tables = [open(f"/proc/net/{name}").read() for name in ("udp", "udp6")]
        sys.exit(0 if any(f":{port:04X} " in table for table in tables) else 1)
    receiver = Receiver(args)
    signal.signal(signal.SIGTERM, lambda *_: receiver.over.set())
    signal.signal(signal.SIGINT, lambda *_: receiver.over.set())
    with open(READY, "w") as f:
        f.write(str(parse(args.endpoints[0])[1]))
    print("listening on " + ", ".join(args.endpoints), file=sys.stderr)
    receiver.over.wait(args.timeout)
    summary = receiver.summary()
    for stream in receiver.streams:
        stream.stop()
    print(json.dumps(summary))
    sys.exit(0 if summary["ended"] else 1)


main()
