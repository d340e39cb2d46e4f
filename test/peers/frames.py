"""Ethernet frames as this kernel makes and takes them: the oracle for src/net/frame.ts. Standard library only.

frames.py checksum-off IFACE          switch transmit checksum offload off, so that captured frames carry finished checksums
frames.py send IFACE                  sends the UDP packets described by a JSON list on stdin
frames.py capture IFACE PORT COUNT    prints 'ready', then COUNT frames to UDP port PORT as hex, one a line
frames.py inject IFACE                sends the frames on stdin (hex, one a line) as they are
"""
import ctypes
import fcntl
import json
import socket
import struct
import sys

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
ETH_P_ALL = 3
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
IPV6_AUTOFLOWLABEL, IPV6_MTU_DISCOVER = 70, 23


def checksum_off(iface):
    value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCETHTOOL, struct.pack("16sP", iface.encode(), ctypes.addressof(value)))


def send(iface):
    index = socket.if_nametoindex(iface)
    for p in json.load(sys.stdin):
        v6 = ":" in p["source"]
        s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
        if v6:
            s.setsockopt(socket.IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0)
            s.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, p["dscp"] << 2)
            if "ttl" in p:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, p["ttl"])
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, p["ttl"])
        else:
            s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", b"\0" * 4, b"\0" * 4, index))
            s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, p["dscp"] << 2)
            if "ttl" in p:
                s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, p["ttl"])
                s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, p["ttl"])
        s.bind((p["source"], p["sourcePort"]))
        s.sendto(bytes.fromhex(p["payload"]), (p["destination"], p["port"]))
        s.close()


def udp_port(frame):
    ethertype = struct.unpack("!H", frame[12:14])[0]
    if ethertype == 0x0800 and frame[23] == 17:
        return struct.unpack("!H", frame[36:38])[0]
    if ethertype == 0x86DD and frame[20] == 17:
        return struct.unpack("!H", frame[56:58])[0]
    return None


def capture(iface, port, count):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.bind((iface, ETH_P_ALL))
    print("ready", flush=True)
    while count:
        frame = s.recv(65600)
        if udp_port(frame) == port:
            print(frame.hex(), flush=True)
            count -= 1


def inject(iface):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.bind((iface, ETH_P_ALL))
    for line in sys.stdin:
        s.send(bytes.fromhex(line.strip()))


command, iface = sys.argv[1:3]
if command == "checksum-off":
    checksum_off(iface)
elif command == "send":
    send(iface)
elif command == "capture":
    capture(iface, int(sys.argv[3]), int(sys.argv[4]))
elif command == "inject":
    inject(iface)
else:
    sys.exit(f"unknown command {command}")
