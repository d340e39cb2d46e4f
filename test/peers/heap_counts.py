"""Counts the packets of each heap cnt (SPEAD-64-48) that come to UDP sockets of both families. Standard library only.

heap_counts.py PORT...

Prints 'ready'. When standard input ends and nothing has come for 200 ms, prints [[cnt, packets], ...] as JSON.
"""
import json
import select
import socket
import struct
import sys

SO_RCVBUFFORCE = 33

seen, poll, sockets = {}, select.poll(), {}
for port in map(int, sys.argv[1:]):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    s.bind(("::", port))
    sockets[s.fileno()] = s
    poll.register(s, select.POLLIN)
poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
print("ready", flush=True)
told_to_end = False
while True:
    ready = poll.poll(200 if told_to_end else None)
    if not ready:
        break
    for fd, _ in ready:
        if fd == sys.stdin.fileno():
            poll.unregister(fd)
            told_to_end = True
            continue
        data = sockets[fd].recv(65536)
        if len(data) >= 16 and data[0] == 0x53:
            cnt = struct.unpack_from(">Q", data, 8)[0] & ((1 << 48) - 1)
            seen[cnt] = seen.get(cnt, 0) + 1
print(json.dumps(sorted(seen.items())))
