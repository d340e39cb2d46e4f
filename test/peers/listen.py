"""A UDP socket of both families that nobody reads, until the process is killed. Standard library only.

listen.py PORT

Prints 'ready'.
"""
import signal
import socket
import sys

s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", int(sys.argv[1])))
print("ready", flush=True)
signal.pause()
