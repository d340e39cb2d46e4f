"""Takes single-packet heaps and says whether they came whole, once and in the order of their heap cnts. Needs numpy.

order.py PORT HEAPS

Prints 'ready', then after HEAPS heaps (or a second of silence) one JSON object:
  {"heaps", "inOrder": longest start of the stream in which heap i has cnt i + 1 and sample i, "reads", "rcvbufErrors"}
Every packet must end in a little-endian 64-bit integer that is its heap cnt less one. UDP_GRO keeps the kernel's segmented messages
together (udp(7)), so that Python need not see each of a million packets by itself; what arrives alone is read alone.
"""
import json
import socket
import struct
import sys

import numpy as np

SO_RCVBUFFORCE, UDP_GRO = 33, 104


def rcvbuf_errors():
    names, values = [line.split() for line in open("/proc/net/snmp") if line.startswith("Udp:")]
    return int(values[names.index("RcvbufErrors")])


def main():
    port, wanted = int(sys.argv[1]), int(sys.argv[2])
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
    s.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    s.bind(("0.0.0.0", port))
    errors = rcvbuf_errors()
    print("ready", flush=True)
    s.settimeout(20)
    heaps = reads = in_order = 0
    broken = False
    while heaps < wanted:
        try:
            data, control, _, _ = s.recvmsg(65535, 64)
        except socket.timeout:
            break
        if reads == 0:
            s.settimeout(1)
        reads += 1
        size = len(data)
        for level, kind, value in control:
            if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO):
                (size,) = struct.unpack("i", value)
        if len(data) % size:
            broken = True
            continue
        packets = np.frombuffer(data, np.uint8).reshape(-1, size)
        n = len(packets)
        # SPEAD-64-48: the first item pointer is the heap cnt; its low 48 bits, big-endian, end at byte 16.
        cnts = packets[:, 8:16].copy().view(">u8")[:, 0]
        tails = packets[:, -8:].copy().view("<u8")[:, 0]
        index = np.arange(heaps, heaps + n, dtype=np.uint64)
        good = (cnts == (0x8001 << 48) + index + 1) & (tails == index)
        if not broken:
            bad = np.flatnonzero(~good)
            in_order += int(bad[0]) if len(bad) else n
            broken = len(bad) > 0
        heaps += n
    print(json.dumps({"heaps": heaps, "inOrder": in_order, "reads": reads, "rcvbufErrors": rcvbuf_errors() - errors}))


main()
