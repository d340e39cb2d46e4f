"""What is on the wire: every UDP packet to the given ports that an interface sees, by AF_PACKET. Standard library only.

capture.py IFACE in|out PORT[-PORT]

Prints 'ready', captures until stdin ends and then until 150 ms have passed without a packet, and prints one JSON object:
  {"packets": [[address, port, udp payload bytes, heap cnt, payload offset, SHA-1 of the payload, IP fragment?]], "drops": n}
`in` takes what arrives at the interface, `out` what leaves it (behind its queueing discipline). `drops` is what the capture itself
missed (packet(7), PACKET_STATISTICS). Heap cnt and payload offset are read from the SPEAD item pointers; -1 where there are none.
"""
import hashlib
import json
import select
import socket
import struct
import sys

ETH_P_ALL = 3
PACKET_STATISTICS = 6
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33
SOL_PACKET = 263


def spead(payload):
    """Heap cnt and payload offset of a SPEAD packet, or -1, -1."""
    if len(payload) < 8 or payload[0] != 0x53 or payload[1] != 4:
        return -1, -1
    bits = payload[3] * 8
    found = {}
    (count,) = struct.unpack_from(">H", payload, 6)
    for i in range(min(count, (len(payload) - 8) // 8)):
        (pointer,) = struct.unpack_from(">Q", payload, 8 + 8 * i)
        if pointer >> 63:
            found[(pointer >> bits) & ((1 << (63 - bits)) - 1)] = pointer & ((1 << bits) - 1)
    return found.get(1, -1), found.get(3, -1)


def parse(frame, ports):
    """[address, port, …] of a UDP frame to one of the ports. Fragments behind the first have no ports: all of them are told."""
    ethertype = struct.unpack_from(">H", frame, 12)[0]
    if ethertype == 0x0800:
        ihl = (frame[14] & 15) * 4
        fragment = struct.unpack_from(">H", frame, 20)[0] & 0x3FFF
        if frame[23] != socket.IPPROTO_UDP:
            return None
        address, at = socket.inet_ntop(socket.AF_INET, frame[30:34]), 14 + ihl
    elif ethertype == 0x86DD:
        next_header, at, fragment = frame[20], 54, 0
        if next_header == 44:  # RFC 8200, 4.5: the offset counts in units of 8 bytes above 3 flag bits
            next_header, at, fragment = frame[54], 62, 0x2000 | struct.unpack_from(">H", frame, 56)[0] >> 3
        if next_header != socket.IPPROTO_UDP:
            return None
        address = socket.inet_ntop(socket.AF_INET6, frame[38:54])
    else:
        return None
    if fragment & 0x1FFF:
        return [address, 0, len(frame) - at, -1, -1, "", True]
    port, length = struct.unpack_from(">HH", frame, at + 2)
    if port not in ports:
        return None
    # A GSO super-packet (gso_max_segs not 1) has its whole length in the UDP header too.
    payload = frame[at + 8 : at + length] if length else frame[at + 8 :]
    cnt, offset = spead(payload)
    return [address, port, len(payload), cnt, offset, hashlib.sha1(payload).hexdigest(), fragment != 0]


def main():
    iface, direction, span = sys.argv[1:]
    low, _, high = span.partition("-")
    ports = range(int(low), int(high or low) + 1)
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    s.bind((iface, ETH_P_ALL))
    s.setblocking(False)
    packets = []

    def drain():
        n = 0
        while True:
            try:
                frame, (_, _, kind, _, _) = s.recvfrom(1 << 17)
            except BlockingIOError:
                return n
            except OSError:
                continue  # ENETDOWN, told once when the interface goes down
            n += 1
            if (kind == PACKET_OUTGOING) == (direction == "out"):
                told = parse(frame, ports)
                if told:
                    packets.append(told)

    print("ready", flush=True)
    poll = select.poll()
    poll.register(s, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
    open_ = True
    while True:
        ready = dict(poll.poll(None if open_ else 150))
        if sys.stdin.fileno() in ready:
            if not sys.stdin.buffer.read1(4096):
                poll.unregister(sys.stdin)
                open_ = False
        if drain() == 0 and not open_ and s.fileno() not in ready:
            break
    _, drops = struct.unpack("II", s.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    json.dump({"packets": packets, "drops": drops}, sys.stdout)


main()
