"""When each UDP packet left, and how large it was: one [nanoseconds, bytes of UDP payload] for each, in order.

usage: capture_times.py INTERFACE PORT SECONDS. Writes "ready" to stdout, captures for so long, then prints one JSON object.

The times are the kernel's, taken as it hands a packet to the interface (SO_TIMESTAMPNS), so a reader that is late does no harm. Needs
`ip link set IFACE gso_max_segs 1`, or AF_PACKET sees whole GSO messages.
"""

import json
import select
import socket
import struct
import sys
import time

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SOL_PACKET, PACKET_STATISTICS = 263, 6
# Ethernet, IPv4 without options and UDP.
HEADER_BYTES = 42
QUIET_SECONDS = 0.2


def main() -> None:
    interface, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 512 << 20)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.bind((interface, ETH_P_ALL))  # the tap that also sees what leaves
    print("ready", flush=True)
    end = time.monotonic() + seconds
    packets = []
    while (left := end - time.monotonic()) > 0:
        if not select.select([sock], [], [], min(left, QUIET_SECONDS))[0]:
            continue
        head, ancillary, _, _ = sock.recvmsg(HEADER_BYTES, socket.CMSG_SPACE(16))
        if head[12:14] != b"\x08\x00" or head[23] != socket.IPPROTO_UDP:
            continue
        _, to, length, _ = struct.unpack_from(">HHHH", head, 34)
        if to != port:
            continue
        stamp, nanoseconds = struct.unpack("qq", ancillary[0][2])
        packets.append((stamp * 1_000_000_000 + nanoseconds, length - 8))
    _, dropped = struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    if dropped:
        raise SystemExit(f"capture_times: the kernel dropped {dropped} packets before they were read")
    first = packets[0][0] if packets else 0
    print(json.dumps({"packets": [[at - first, size] for at, size in packets]}))


if __name__ == "__main__":
    main()
