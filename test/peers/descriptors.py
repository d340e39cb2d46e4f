"""What numpy and the real spead2 make of descriptors: reads a list of JSON objects from stdin, writes one of answers to stdout.

{"headers": [text, ...]}    for each text what numpy.lib.format makes of it as the header of an array, and if that refuses it (it knows no dtypes
                            written as dicts) spead2: {shape, order, itemsize, kind, text}, or null where both refuse it
{"random": n, "seed": s}    n random dtypes of numpy in a header: {header, itemsize, kind, text}
{"flavour": bits, "bugCompat": flags, "items": [{name, shape, dtype or format, value, ...}, ...]}
                            the packets (hex) of two heaps that spead2 sends, the descriptors of all items and their values, and per item what
                            spead2's receiver gets: {id, name, shape, dtype, itemsize, order, valueShape}; `value` is a list, or a number n: n zeros
"""

import io
import json
import random
import struct
import sys
import warnings

import numpy as np
import spead2
import spead2.recv
import spead2.send

warnings.simplefilter("ignore")


def text_of(dtype):
    return str(dtype) if dtype.names is not None or dtype.subdtype is not None else dtype.str


def told(shape, fortran, dtype):
    if dtype.hasobject or dtype.itemsize == 0 or any(size < 0 for size in shape):
        return None
    order = "F" if fortran else "C"
    return {"shape": [int(size) for size in shape], "order": order, "itemsize": dtype.itemsize, "kind": dtype.kind, "text": text_of(dtype)}


def read_header(text):
    raw = text.encode("latin1")
    try:
        return told(*np.lib.format.read_array_header_1_0(io.BytesIO(struct.pack("<H", len(raw)) + raw)))
    except Exception:
        try:
            shape, order, dtype = spead2.Descriptor._parse_numpy_header(text)
            return told(shape, order == "F", dtype)
        except Exception:
            return None


SCALARS = "? b1 i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8 f16 c8 c16 c32 S1 S5 S33 U1 U3 V1 V7 M8[ns] m8[us] M8[7D] M8".split()
SCALARS += "int16 uint16 float complex64 bool B H q longdouble".split()
NAMES = ["x", "y", "re", "im", "a field", "it's", 'say "so"', "back\\slash", "tab\t", "new\nline", "f0", "f1", "\u00e9", "\x85", "\u2028", "\U0001f600"]


def random_dtype(r, depth=0):
    kind = r.random()
    if depth > 3 or kind < 0.4:
        scalar = np.dtype(r.choice(SCALARS))
        return scalar.newbyteorder(r.choice("<>"))
    if kind < 0.55 and depth > 0:
        return np.dtype((random_dtype(r, depth + 1), tuple(r.randint(1, 4) for _ in range(r.randint(1, 3)))))
    names = r.sample(NAMES, r.randint(1, 5))
    fields = [(name, random_dtype(r, depth + 1)) for name in names]
    if r.random() < 0.2:
        fields = [((f"title of {name}", name), dtype) for name, dtype in fields]
    if kind < 0.8:
        return np.dtype(fields, align=r.random() < 0.4)
    offsets, at = [], 0
    for _, dtype in fields:
        at += r.randint(0, 5)
        offsets.append(at)
        at += dtype.itemsize
    plain = [name if isinstance(name, str) else name[1] for name, _ in fields]
    return np.dtype({"names": plain, "formats": [f for _, f in fields], "offsets": offsets, "itemsize": at + r.randint(0, 9)})


def random_headers(count, seed):
    r = random.Random(seed)
    found = []
    while len(found) < count:
        dtype = random_dtype(r)
        shape = tuple(r.randint(0, 5) for _ in range(r.randint(0, 3)))
        # numpy prints padding that it reads back as such, and dicts, which only numpy.dtype takes.
        descr = np.lib.format.dtype_to_descr(dtype) if r.random() < 0.7 else eval(text_of(dtype)) if dtype.names else dtype.str
        header = {"descr": descr, "fortran_order": r.random() < 0.5, "shape": shape}
        if any(ord(c) > 255 for c in repr(header)):
            header = ascii(header)
        else:
            keys = list(header)
            r.shuffle(keys)
            header = repr({key: header[key] for key in keys})
        answer = read_header(header)
        if answer is not None:
            found.append({"header": header, **answer})
    return found


def exchange(spec):
    flavour = spead2.Flavour(4, 64, spec["flavour"], spec.get("bugCompat", 0))
    group = spead2.send.ItemGroup(flavour=flavour)
    for i, item in enumerate(spec["items"]):
        how = {"dtype": eval(item["dtype"])} if "dtype" in item else {"format": [tuple(field) for field in item["format"]]}
        shape = tuple(item["shape"])
        if isinstance(item["value"], int) and "dtype" in item:
            value = np.zeros(tuple(item["value"] if size is None else size for size in shape), how["dtype"])
        else:
            value = eval(item["value"]) if isinstance(item["value"], str) else item["value"]
        group.add_item(spec.get("firstId", 0x1000) + i, item["name"], item.get("description", "about"), shape, order=item.get("order", "C"), value=value, **how)
    heaps = [group.get_heap(descriptors="all", data="none"), group.get_heap(descriptors="none", data="all")]
    packets = [bytes(p) for cnt, heap in enumerate(heaps, 1) for p in spead2.send.PacketGenerator(heap, cnt, 1472)]
    queue = spead2.InprocQueue()
    for packet in packets:
        queue.add_packet(packet)
    queue.stop()
    stream = spead2.recv.Stream(spead2.ThreadPool(), spead2.recv.StreamConfig(bug_compat=spec.get("bugCompat", 0)))
    stream.add_inproc_reader(queue)
    received = spead2.ItemGroup()
    for heap in stream:
        received.update(heap)
    items = [
        {
            "id": item.id,
            "name": item.name,
            "shape": list(item.shape),
            "dtype": None if item.dtype is None else text_of(item.dtype),
            "itemsize": None if item.dtype is None else item.dtype.itemsize,
            "format": [] if item.format is None else [list(field) for field in item.format],
            "order": item.order,
            "valueShape": [len(item.value)] if isinstance(item.value, str) else list(np.shape(item.value)),
        }
        for item in sorted(received.values(), key=lambda item: item.id)
    ]
    return {"packets": [packet.hex() for packet in packets], "items": items}


def answer(spec):
    if "headers" in spec:
        return [read_header(text) for text in spec["headers"]]
    return random_headers(spec["random"], spec["seed"]) if "random" in spec else exchange(spec)


json.dump([answer(spec) for spec in json.load(sys.stdin)], sys.stdout)
