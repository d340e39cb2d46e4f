"""The real spead2 as receiver of docs/examples/f-engine.ts and docs/examples/digitiser.ts. Nothing of ours is used here.

Arguments: the example's name, the first group, the number of groups, the port. The groups are those of the loopback interface. Standard
output: 'ready', and in the end one line of JSON with what came.
"""

import ipaddress
import json
import logging
import sys
import threading

import numpy as np
import spead2
import spead2.recv

example, first, groups, port = sys.argv[1], ipaddress.ip_address(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
logging.getLogger("spead2").setLevel(logging.ERROR)
lock = threading.Lock()
SENDERS = {"f-engine": 2, "digitiser": 1}[example]
found = {"heaps": 0, "different": 0, "incomplete": 0, "wrong": [], "saturated": [0, 0], "tone": [0, 0]}
times = set()


def f_engine(group, items):
    """Every voltage is a number of its channel, spectrum, part, F-engine and time (voltages in docs/examples/f-engine.ts)."""
    raw = items["feng_raw"].value
    feng_id, frequency, timestamp = (int(items[name].value) for name in ("feng_id", "frequency", "timestamp"))
    channel, spectrum, pol, part = np.ogrid[: raw.shape[0], : raw.shape[1], :2, :2]
    time = timestamp // (2 * 256 * raw.shape[1])
    expected = frequency + channel + 3 * spectrum + 50 * (2 * pol + part) + 101 * feng_id + 7 * time
    times.add((feng_id, frequency, time))
    right = raw.shape == (16, 256, 2, 2) and raw.dtype == np.int8 and frequency == 16 * group
    return right and np.array_equal(raw, expected.astype(np.int8))


def digitiser(group, items):
    """The samples are a tone in noise, and the status counts those that are at an end of the range."""
    samples = np.array(items["adc_samples"].value)
    pol = int(items["digitiser_id"].value) & 1
    status = int(items["digitiser_status"].value)
    saturated = int(np.count_nonzero((samples == -512) | (samples == 511)))
    times.add((pol, int(items["timestamp"].value)))
    found["saturated"][pol] += saturated
    found["tone"][pol] += 2 * np.mean(samples * np.exp(-0.25j * np.pi * np.arange(len(samples))))
    right = len(samples) == 4096 and status == ((saturated << 32 | 2) if saturated else 0)
    return right and group == 2 * pol + int(items["timestamp"].value) // 4096 % 2


def receive(group, stream):
    known = spead2.ItemGroup()
    stops = 0
    for heap in stream:
        if isinstance(heap, spead2.recv.IncompleteHeap):
            found["incomplete"] += 1
            continue
        if heap.is_end_of_stream():
            stops += 1
            if stops == SENDERS:
                break
            continue
        items = known.update(heap)
        if not items:
            continue
        with lock:
            found["heaps"] += 1
            if not (f_engine if example == "f-engine" else digitiser)(group, items):
                found["wrong"].append([group, heap.cnt])


def main():
    threads = []
    streams = []
    for group in range(groups):
        # While a heap of one F-engine comes, four of the other and descriptors may begin.
        config = spead2.recv.StreamConfig(max_heaps=32, stop_on_stop_item=False)
        ring = spead2.recv.RingStreamConfig(heaps=64, contiguous_only=False)
        stream = spead2.recv.Stream(spead2.ThreadPool(), config, ring)
        stream.add_udp_reader(str(first + group), port, interface_address="127.0.0.1", max_size=9200)
        streams.append(stream)
        threads.append(threading.Thread(target=receive, args=(group, stream), daemon=True))
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join(20)
    for stream in streams:
        stream.stop()
    found["different"] = len(times)
    found["tone"] = [round(abs(sum_) / max(1, found["heaps"] / 2), 1) for sum_ in found["tone"]]
    print(json.dumps(found), flush=True)


main()
