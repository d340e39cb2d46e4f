"""The real spead2 as a receiver that says what it got. Argument: a UDP port of 127.0.0.1. One JSON object per line on stdout: {"ready": port},
then {"heap": cnt, "items": {name: {"id", "dtype", "shape", "value"}}} for each heap until the stop heap, with the items that it updated. A dtype
is numpy's own text of it, None for a format that numpy has no type for; values are nested lists, a complex number [re, im].
Nothing of ours is used here.
"""

import json
import socket
import sys

import numpy as np
import spead2
import spead2.recv


def plain(value):
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (bytes, np.generic)):
        return plain(value.item() if isinstance(value, np.generic) else value.decode())
    return value


def tell(**what):
    print(json.dumps(what), flush=True)


sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", int(sys.argv[1])))
stream = spead2.recv.Stream(spead2.ThreadPool())
stream.add_udp_reader(sock, max_size=65536)
group = spead2.ItemGroup()
tell(ready=sock.getsockname()[1])
for heap in stream:
    # new_order '|' leaves the sender's byte order to be looked at.
    updated = group.update(heap, new_order="|")
    items = {}
    for name, item in updated.items():
        array = np.asarray(item.value)
        descr = None if item.dtype is None or item.dtype.hasobject else str(item.dtype.descr if item.dtype.names else item.dtype.str)
        items[name] = {"id": item.id, "dtype": descr, "shape": list(array.shape), "value": plain(array.tolist())}
    if items:
        tell(heap=heap.cnt, items=items)
