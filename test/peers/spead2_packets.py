"""The real spead2 as a test peer: one JSON request per line on stdin, one JSON answer per line on stdout.

It only calls spead2's public API (PacketGenerator, BytesStream, ItemGroup, recv.Stream); it knows nothing of our encoder. Bytes travel as
base64, integers that may exceed 2^53 as decimal strings. An answer is {"id", "ok": true, "result"} or {"id", "ok": false, "error"};
inside a batch each case answers for itself, with {"error"} where spead2 raised.

Requests (field "op"):
  encode    {cases: [{flavour, repeatPointers, cnt, packetSizes: [n], parts}]} -> [{packets: [[b64]]}]
            parts: [{"descriptor": ITEM} | {"item": ITEM} | {"start": true} | {"end": true}]
  groups    {cases: [{flavour, repeatPointers, packetSize, sequence: [next, step], groups: [{mode, heaps: [{cnt, parts}]}]}]} -> [{packets: [b64]}]
            each group by one send_heaps on one stream; packets of all groups as the stream wrote them; no cnt: the sequence's next
  sequence  {cases: [{flavour, descriptorFrequency, steps}]} -> [{heaps: [[b64]]}]
            steps: {"add": ITEM} | {"set": name, "item": ITEM} | {"touch": name} | {"heap": {descriptors, data}, cnt, packetSize}
  decode    {heaps: [{packets: [b64], bugCompat, items: [ITEM]}]} -> [HEAP]
            ITEMs are added to the receiving group first, so that a heap without descriptors has values too
ITEM: {id, name, description, shape, dtype | format, order, value}; value is null (no value) or
  {"raw": b64, "dtype", "shape"} | {"text": str} | {"bytes": b64} | {"list": nested leaves, one list per element where the format has several fields}
HEAP: {cnt, complete, receivedBytes, heapBytes, start, end, heapAddressBits, items: [{id, immediate, bytes}], descriptors, values}
"""

import base64
import json
import logging
import sys

import numpy as np
import spead2
import spead2.recv
import spead2.send


def b64(data):
    return base64.b64encode(bytes(data)).decode("ascii")


def make_flavour(f):
    return spead2.Flavour(4, 64, f["heapAddressBits"], f["bugCompat"])


def leaf(code, value):
    if code in ("u", "i"):
        return int(value)
    if code == "f":
        return float(value)
    if code == "b":
        return bool(value)
    return value.encode("latin-1")


def nested(value, dims, fmt):
    if dims > 0:
        return [nested(v, dims - 1, fmt) for v in value]
    if len(fmt) == 1:
        return leaf(fmt[0][0], value)
    return tuple(leaf(code, v) for (code, _), v in zip(fmt, value))


def make_value(desc, fmt):
    value = desc.get("value")
    if value is None:
        return None
    if "raw" in value:
        return np.frombuffer(base64.b64decode(value["raw"]), dtype=np.dtype(value["dtype"])).reshape(value["shape"])
    if "text" in value:
        return value["text"]
    if "bytes" in value:
        return base64.b64decode(value["bytes"])
    out = nested(value["list"], len(desc["shape"]), fmt)
    if isinstance(out, int) and out < 0 and desc["shape"] == [] and len(fmt) == 1 and fmt[0][1] < 64:
        # spead2 views a scalar of odd byte width as >u8; numpy 2 refuses a negative Python int there, but wraps an int64
        return np.array(out, dtype=np.int64)
    return out


def make_item(desc):
    fmt = [tuple(x) for x in desc["format"]] if desc.get("format") is not None else None
    return spead2.Item(
        id=desc["id"] if not isinstance(desc["id"], str) else int(desc["id"]),
        name=desc["name"],
        description=desc["description"],
        shape=tuple(desc["shape"]),
        dtype=desc.get("dtype"),
        order=desc.get("order") or "C",
        format=fmt,
        value=make_value(desc, fmt),
    )


def packets_of(heap, cnt, size):
    return [b64(p) for p in spead2.send.PacketGenerator(heap, int(cnt), size)]


def build_heap(case, parts):
    """The heap, and the items whose memory it refers to."""
    heap = spead2.send.Heap(make_flavour(case["flavour"]))
    heap.repeat_pointers = bool(case.get("repeatPointers"))
    keep = []
    for part in parts:
        if "descriptor" in part:
            heap.add_descriptor(make_item(part["descriptor"]))
        elif "item" in part:
            keep.append(make_item(part["item"]))
            heap.add_item(keep[-1])
        elif "start" in part:
            heap.add_start()
        else:
            heap.add_end()
    return heap, keep


def encode_one(case):
    heap, _keep = build_heap(case, case["parts"])
    out = []
    for size in case["packetSizes"]:
        try:
            out.append(packets_of(heap, case["cnt"], size))
        except Exception as e:
            out.append({"error": f"{type(e).__name__}: {e}"})
    return {"packets": out}


def cut(data):
    """Packets written one behind the other: each ends where its number of pointers and its payload length pointer say."""
    packets = []
    at = 0
    while at < len(data):
        bits = data[at + 3] * 8
        end = at + 8 + 8 * int.from_bytes(data[at + 6 : at + 8], "big")
        for p in range(at + 8, end, 8):
            pointer = int.from_bytes(data[p : p + 8], "big")
            if pointer >> bits == (1 << (63 - bits)) | 4:
                length = pointer & ((1 << bits) - 1)
        packets.append(data[at : end + length])
        at = end + length
    return packets


def groups_one(case):
    most = max(len(group["heaps"]) for group in case["groups"])
    config = spead2.send.StreamConfig(max_packet_size=case["packetSize"], max_heaps=most)
    stream = spead2.send.BytesStream(POOL, config)
    if "sequence" in case:
        stream.set_cnt_sequence(*(int(n) for n in case["sequence"]))
    for group in case["groups"]:
        built = [(build_heap(case, heap["parts"]), int(heap.get("cnt", -1))) for heap in group["heaps"]]
        references = [spead2.send.HeapReference(heap, cnt=cnt) for (heap, _keep), cnt in built]
        modes = {"serial": spead2.send.GroupMode.SERIAL, "round-robin": spead2.send.GroupMode.ROUND_ROBIN}
        stream.send_heaps(references, modes[group["mode"]])
    return {"packets": [b64(p) for p in cut(stream.getvalue())]}


def sequence_one(case):
    group = spead2.send.ItemGroup(flavour=make_flavour(case["flavour"]), descriptor_frequency=case.get("descriptorFrequency"))
    heaps = []
    for step in case["steps"]:
        if "add" in step:
            item = make_item(step["add"])
            group.add_item(
                None if step["add"].get("autoId") else item.id, item.name, item.description, item.shape,
                dtype=item.dtype, order=item.order, format=item.format, value=item.value,
            )
        elif "set" in step:
            group[step["set"]].value = make_item(step["item"]).value
        elif "touch" in step:
            group[step["touch"]].version += 1
        else:
            heap = group.get_heap(**step["heap"])
            heaps.append(packets_of(heap, step["cnt"], step["packetSize"]))
    return {"heaps": heaps}


def plain(value):
    """A decoded value in a form that JSON compares exactly: floats by their bits, integers as strings."""
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return {"int": str(int(value))}
    array = np.asarray(value)
    if array.dtype.hasobject:
        flat = [hexes(x) for x in array.ravel().tolist()] if array.ndim else [hexes(array[()])]
        return {"shape": list(array.shape), "objects": flat}
    return {"shape": list(array.shape), "dtype": str(array.dtype.str), "bytes": b64(np.ascontiguousarray(array).tobytes())}


def hexes(x):
    if isinstance(x, (tuple, list, np.void)):
        return [hexes(y) for y in x]
    if isinstance(x, bytes):
        return x.hex()
    if isinstance(x, (float, np.floating)):
        return float(x).hex()
    return str(int(x))


POOL = spead2.ThreadPool()
# Heaps without descriptors are wanted here; spead2 warns once per item of each.
logging.getLogger("spead2").setLevel(logging.ERROR)


def decode_one(req):
    # Every packet reaches the receiver alone, so a packet whose length contradicts its header is dropped, as it would be over UDP.
    queue = spead2.InprocQueue()
    for p in req["packets"]:
        queue.add_packet(base64.b64decode(p))
    queue.stop()
    config = spead2.recv.StreamConfig(
        max_heaps=4, stop_on_stop_item=False, allow_out_of_order=True, bug_compat=req.get("bugCompat", 0)
    )
    stream = spead2.recv.Stream(POOL, config, spead2.recv.RingStreamConfig(heaps=8, contiguous_only=False))
    stream.add_inproc_reader(queue)
    heaps = list(stream)
    stats = stream.stats
    packets = stats["packets"]
    stream.stop()
    if len(heaps) != 1:
        return {"error": f"{len(heaps)} heaps from {packets} accepted packets of {len(req['packets'])}"}
    heap = heaps[0]
    complete = isinstance(heap, spead2.recv.Heap)
    items = []
    for raw in heap.get_items():
        items.append({"id": str(raw.id), "immediate": raw.is_immediate, "bytes": b64(np.array(raw, np.uint8, copy=False))})
    out = {
        "cnt": str(heap.cnt),
        "complete": complete,
        "packets": packets,
        "heapAddressBits": heap.flavour.heap_address_bits,
        "start": heap.is_start_of_stream(),
        "end": heap.is_end_of_stream(),
        "items": items,
    }
    if complete:
        out["descriptors"] = [
            {
                "id": str(d.id),
                "name": d.name.decode("latin-1"),
                "description": d.description.decode("latin-1"),
                "shape": [None if x is None else str(x) for x in d.shape],
                "format": [[code, length] for code, length in d.format],
                "dtype": d.numpy_header.decode("latin-1"),
            }
            for d in heap.get_descriptors()
        ]
        group = spead2.ItemGroup()
        for desc in req.get("items") or []:
            item = make_item({**desc, "value": None})
            group.add_item(
                item.id, item.name, item.description, item.shape, dtype=item.dtype, order=item.order, format=item.format
            )
        try:
            updated = group.update(heap, new_order="|")
            out["values"] = {name: plain(item.value) for name, item in updated.items()}
        except Exception as e:
            out["valueError"] = f"{type(e).__name__}: {e}"
    else:
        out["heapBytes"] = str(heap.heap_length)
        out["receivedBytes"] = str(heap.received_length)
    return out


def each(function, cases):
    out = []
    for case in cases:
        try:
            out.append(function(case))
        except Exception as e:
            out.append({"error": f"{type(e).__name__}: {e}"})
    return out


OPS = {
    "encode": lambda r: each(encode_one, r["cases"]),
    "groups": lambda r: each(groups_one, r["cases"]),
    "sequence": lambda r: each(sequence_one, r["cases"]),
    "decode": lambda r: each(decode_one, r["heaps"]),
    "versions": lambda r: {"spead2": spead2.__version__, "numpy": np.__version__},
}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"id": request["id"], "ok": True, "result": OPS[request["op"]](request)}
        except Exception as e:
            answer = {"id": request["id"], "ok": False, "error": f"{type(e).__name__}: {e}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
