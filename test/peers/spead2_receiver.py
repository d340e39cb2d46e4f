"""The real spead2 as a receiver that checks what it gets. One JSON argument, one JSON object per line on stdout:
{"ready": version} when its sockets listen, {"heap": [endpoint, cnt, index, items, [what is wrong]]} for every data heap, and at the end
{"done": {"heaps", "incomplete", "descriptorHeaps", "rcvbufErrors", "sha256"}}.

  endpoints  [[host, port, device or null], …]: a stream each, which ends at its first stop item; a multicast group is joined on device
  items      [{name, dtype | format, shape, order}]: what the sender says of itself; every heap must carry all of them and `index`
  tcp        true: connections instead of datagrams
  ibverbs    address of the interface whose device receives, instead of the kernel; the groups are joined there by spead2 itself
  maxHeaps   default 4, spead2's own; round-robin groups need as many
  file       name of an item instead of `items`: its bytes in the order of `timestamp` are hashed
  seconds    give up after so long (default 20)

Element k (C order) of item number i in heap number `index` is value(index, i, k), a small whole number that every type can hold; the
sender has the same formula. Nothing of ours is used here.
"""

import hashlib
import json
import logging
import socket
import struct
import sys
import threading
import time

import numpy as np
import spead2
import spead2.recv

SO_RCVBUFFORCE = 33
MAX_PACKET = 65536
out_lock = threading.Lock()


def tell(**what):
    with out_lock:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def value(index, item, k):
    return (index * 7 + k * 3 + item) % 50


def element(code, v):
    """What a value is in the type that a dtype's or a format's letter names."""
    if code in "?b":
        return v % 2 == 1
    if code == "c":
        return complex(v, v + 1)
    if code == "S":
        return str(v).encode()
    if code == "U":
        return str(v)
    return v


def expected(spec, index, number):
    shape = tuple(spec["shape"])
    n = int(np.prod(shape, dtype=int))
    values = [value(index, number, k) for k in range(n)]
    if spec.get("dtype"):
        dtype = np.dtype(spec["dtype"])
        if dtype.kind in "Mm":
            return np.array(values, dtype=">i8" if dtype.byteorder == ">" else "<i8").view(dtype).reshape(shape)
        code = "?" if dtype.kind == "b" else dtype.kind
        return np.array([element(code, v) for v in values], dtype=dtype).reshape(shape)
    fields = [code for code, _ in spec["format"]]
    if fields == ["c"]:
        return "".join(chr(65 + v % 26) for v in values)
    one = {"b": lambda v: bool(v % 2), "c": lambda v: bytes([65 + v % 26])}
    flat = [tuple(one.get(code, lambda x: x)(v % 8) for code in fields) for v in values]
    if len(fields) == 1:
        flat = [v[0] for v in flat]
    array = np.empty(n, dtype=object)
    array[:] = flat
    return array.reshape(shape)


def differs(spec, index, number, got):
    want = expected(spec, index, number)
    if isinstance(want, str):
        return None if got == want else f"{got!r} is not {want!r}"
    if spec.get("dtype"):
        got = np.asarray(got)
        # A zero-dimensional item comes as a numpy scalar, which is native and, of text, as long as its content.
        told = np.dtype(spec["dtype"])
        if got.dtype != told and not (spec["shape"] == [] and (got.dtype == told.newbyteorder("=") or told.kind in "SU")):
            return f"dtype {got.dtype.str}"
        if got.shape != want.shape:
            return f"shape {got.shape}"
        same = got == want
        return None if np.all(same) else f"{got.ravel()[:8]} is not {want.ravel()[:8]}"
    got = np.asarray(got)
    if got.shape != want.shape:
        return f"shape {got.shape}"
    pairs = zip(got.ravel().tolist(), want.ravel().tolist())
    bad = [(g, w) for g, w in pairs if g != w]
    return f"{bad[0][0]!r} is not {bad[0][1]!r}" if bad else None


def listen(host, port):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    s.listen(1)
    return s


def open_socket(host, port, device):
    v6 = ":" in host
    address = socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, host)
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    # spead2 asks for 8 MiB, which the system would clip to rmem_max.
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    if device and v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, address + struct.pack("@I", socket.if_nametoindex(device)))
    elif device:
        index = struct.pack("@4si", bytes(4), socket.if_nametoindex(device))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, address + index)
    return s


def rcvbuf_errors():
    total = 0
    lines = [line.split() for line in open("/proc/net/snmp") if line.startswith("Udp:")]
    total += int(lines[1][lines[0].index("RcvbufErrors")])
    for line in open("/proc/net/snmp6"):
        if line.startswith("Udp6RcvbufErrors"):
            total += int(line.split()[1])
    return total


class Endpoint:
    def __init__(self, number, request, source):
        config = spead2.recv.StreamConfig(max_heaps=request.get("maxHeaps", 4))
        ring = spead2.recv.RingStreamConfig(heaps=256, contiguous_only=False)
        self.number = number
        self.request = request
        self.stream = spead2.recv.Stream(spead2.ThreadPool(), config, ring)
        if "ibverbs" in request:
            config = spead2.recv.UdpIbvConfig(endpoints=[source], interface_address=request["ibverbs"], buffer_size=32 << 20, max_size=9000)
            self.stream.add_udp_ibv_reader(config)
        elif request.get("tcp"):
            self.stream.add_tcp_reader(source, max_size=MAX_PACKET)
        else:
            self.stream.add_udp_reader(source, max_size=MAX_PACKET)
        self.group = spead2.ItemGroup()
        self.heaps = self.incomplete = self.descriptor_heaps = 0
        self.pieces = {}
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        for heap in self.stream:
            if isinstance(heap, spead2.recv.IncompleteHeap):
                self.incomplete += 1
                continue
            # new_order '|' leaves the sender's byte order to be looked at.
            updated = self.group.update(heap, new_order="|")
            if heap.is_end_of_stream():
                continue
            if not updated:
                self.descriptor_heaps += 1
                continue
            self.heaps += 1
            if "file" in self.request:
                item = updated[self.request["file"]]
                self.pieces[int(updated["timestamp"].value)] = np.asarray(item.value).tobytes()
                continue
            wrong = []
            index = int(updated["index"].value) if "index" in updated else -1
            if index < 0:
                wrong.append("no index")
            for number, spec in enumerate(self.request["items"]):
                if spec["name"] not in updated:
                    wrong.append(f"no {spec['name']}")
                    continue
                why = differs(spec, index, number, updated[spec["name"]].value)
                if why:
                    wrong.append(f"{spec['name']}: {why}")
            tell(heap=[self.number, heap.cnt, index, len(updated), wrong])


def main():
    request = json.loads(sys.argv[1])
    logging.getLogger("spead2").setLevel(logging.ERROR)
    before = rcvbuf_errors()
    if "ibverbs" in request:
        sources = [(host, port) for host, port, *_ in request["endpoints"]]
    elif request.get("tcp"):
        sources = [listen(host, port) for host, port, *_ in request["endpoints"]]
    else:
        sources = [open_socket(*endpoint) for endpoint in request["endpoints"]]
    endpoints = [Endpoint(i, request, source) for i, source in enumerate(sources)]
    for endpoint in endpoints:
        endpoint.thread.start()
    tell(ready=spead2.__version__)
    deadline = time.monotonic() + request.get("seconds", 20)
    for endpoint in endpoints:
        endpoint.thread.join(max(0, deadline - time.monotonic()))
    done = {
        "ended": not any(endpoint.thread.is_alive() for endpoint in endpoints),
        "heaps": sum(endpoint.heaps for endpoint in endpoints),
        "incomplete": sum(endpoint.incomplete for endpoint in endpoints),
        "descriptorHeaps": sum(endpoint.descriptor_heaps for endpoint in endpoints),
        "rcvbufErrors": rcvbuf_errors() - before,
    }
    if "file" in request:
        pieces = {t: piece for endpoint in endpoints for t, piece in endpoint.pieces.items()}
        whole = hashlib.sha256()
        at = 0
        for timestamp in sorted(pieces):
            whole.update(pieces[timestamp])
            at += len(pieces[timestamp])
        done["bytes"] = at
        done["sha256"] = whole.hexdigest()
    tell(done=done)
    for endpoint in endpoints:
        endpoint.stream.stop()


main()
