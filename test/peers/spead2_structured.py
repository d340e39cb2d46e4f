"""Sends structured arrays as items of one heap, and prints for each its bytes, its numbers and the brackets that numpy writes around them.

Arguments: the port of a receiver on 127.0.0.1, then a list of (name, descr, shape) as a Python literal.
"""

import ast
import json
import sys

import numpy as np
import spead2
import spead2.send


def numbers(value):
    if isinstance(value, np.void):
        return [number for name in value.dtype.names for number in numbers(value[name])]
    if isinstance(value, np.ndarray):
        return [number for element in value for number in numbers(element)] if value.shape else numbers(value[()])
    return [str(value)]


port, cases = int(sys.argv[1]), ast.literal_eval(sys.argv[2])
np.set_printoptions(linewidth=10**6)
random = np.random.default_rng(20261130)
group = spead2.send.ItemGroup(flavour=spead2.Flavour(4, 64, 48, 0))
told = []
for i, (name, descr, shape) in enumerate(cases):
    dtype = np.dtype(descr)
    value = np.zeros(shape, dtype)
    raw = value.view(np.uint8) if value.shape else value.reshape(1).view(np.uint8)
    # Small bytes make finite floats and numbers of a few digits.
    raw[...] = random.integers(0, 64, raw.shape, np.uint8)
    group.add_item(0x3300 + i, name, "structured", value.shape, dtype, value=value)
    brackets = "".join(c for c in str(value) if c in "[]()")
    told.append({"name": name, "bytes": value.tobytes().hex(), "numbers": numbers(value), "brackets": brackets})
stream = spead2.send.UdpStream(spead2.ThreadPool(), [("127.0.0.1", port)], spead2.send.StreamConfig(rate=0))
stream.send_heap(group.get_heap(descriptors="all", data="all"))
stream.send_heap(group.get_end())
print(json.dumps(told), flush=True)
