"""Captures what a sender puts on an interface, segment by segment, and lets spead2 decode it.

Needs `ip link set IFACE gso_max_segs 1`, or AF_PACKET sees whole GSO messages. Writes "ready" to stdout, captures until stdin
closes, then prints one JSON object: packets, udpBytes, sizes (packets by size), sha256 (over every packet's length and bytes, in
order), and what spead2 made of them: heaps in heap-cnt order with the tutorial's contents, or the first thing that was wrong.
"""

import argparse
import hashlib
import json
import select
import socket
import struct
import sys
from collections import Counter

import numpy as np
import spead2
import spead2.recv

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33


def udp_payload(frame: bytes, port: int) -> bytes | None:
    """The UDP payload of an Ethernet frame to `port`; None for anything else. IP fragments are an error."""
    header = (frame[14] & 15) * 4
    if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_UDP:
        return None
    if struct.unpack_from(">H", frame, 20)[0] & 0x3FFF:
        raise SystemExit("capture: an IP fragment was sent")
    _, to, length, _ = struct.unpack_from(">HHHH", frame, 14 + header)
    return frame[14 + header + 8 : 14 + header + length] if to == port else None


def capture(interface: str, port: int) -> list[bytes]:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
    sock.bind((interface, ETH_P_ALL))  # the tap that also sees what leaves
    print("ready", flush=True)
    packets: list[bytes] = []
    open_stdin = True
    while True:
        waiting = [sock, sys.stdin] if open_stdin else [sock]
        readable, _, _ = select.select(waiting, [], [], None if open_stdin else 0.2)
        if not readable:
            break
        if sys.stdin in readable:
            open_stdin = bool(sys.stdin.read(1))
        if sock in readable:
            payload = udp_payload(sock.recv(1 << 16), port)
            if payload is not None:
                packets.append(payload)
    received, dropped = struct.unpack("II", sock.getsockopt(263, 6, 8))  # SOL_PACKET, PACKET_STATISTICS
    if dropped:
        raise SystemExit(f"capture: the kernel dropped {dropped} of {received} packets before they were read")
    return packets


def decode(packets: list[bytes]) -> dict:
    stream = spead2.recv.Stream(spead2.ThreadPool(), spead2.recv.StreamConfig(max_heaps=4))
    stream.add_buffer_reader(b"".join(packets))
    items = spead2.ItemGroup()
    heaps, last_cnt, wrong = 0, 0, None
    for heap in stream:
        if wrong:
            continue
        updated = items.update(heap)
        if heap.cnt <= last_cnt:
            wrong = f"heap cnt {heap.cnt} after {last_cnt}"
        last_cnt = heap.cnt
        if "adc_samples" not in updated:  # descriptors only
            continue
        samples, timestamp = items["adc_samples"].value, items["timestamp"].value
        if timestamp != heaps * samples.size:
            wrong = f"heap {heaps}: timestamp {timestamp}, expected {heaps * samples.size}"
        elif not (samples == np.array(heaps).astype(np.int8)).all():
            wrong = f"heap {heaps}: samples are not all {np.array(heaps).astype(np.int8)}"
        heaps += 1
    incomplete = stream.stats.incomplete_heaps_evicted + stream.stats.incomplete_heaps_flushed
    return {"heaps": heaps, "incompleteHeaps": incomplete, "wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("interface")
    parser.add_argument("port", type=int)
    args = parser.parse_args()
    packets = capture(args.interface, args.port)
    digest = hashlib.sha256()
    for packet in packets:
        digest.update(struct.pack(">I", len(packet)))
        digest.update(packet)
    sizes = sorted(Counter(map(len, packets)).items())
    print(
        json.dumps(
            {
                "packets": len(packets),
                "udpBytes": sum(map(len, packets)),
                "sizes": dict(sizes),
                "sha256": digest.hexdigest(),
                **decode(packets),
            }
        )
    )


if __name__ == "__main__":
    main()
