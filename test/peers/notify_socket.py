"""Listens as systemd does for sd_notify(3): prints each datagram as a line of JSON. NAME is a path, or @ and the name of an abstract socket."""

import json
import socket
import sys

name = sys.argv[1]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind("\0" + name[1:] if name.startswith("@") else name)
print("listening", flush=True)
while True:
    print(json.dumps(listener.recv(65536).decode().split("\n")), flush=True)
