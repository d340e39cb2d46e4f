"""The real spead2 receives a loop over TCP and follows its windows. Prints {"ready"} when it listens, and at the stop heap
{"heaps", "breaks", "runs", "wrong"}.

    loop_windows.py '{"port", "step", "windows"}'

Item 0x3300 has 64 bytes: the number of the window, the number of the heap in it as two bytes, and 61 bytes that equal the window's number.
`windows` has the heaps of each. "runs" are [window, cnt, timestamp, heap] where another window begins. "breaks" counts heaps whose cnt or
timestamp does not follow the one before, modulo 2^48, or whose number is not the next of its window; "wrong" heaps with other bytes.
"""

import json
import logging
import sys

import spead2
import spead2.recv

logging.getLogger("spead2").setLevel(logging.ERROR)
WIDTH = 1 << 48


def say(what):
    print(json.dumps(what), flush=True)


def receive(port, step, windows):
    stream = spead2.recv.Stream(
        spead2.ThreadPool(), spead2.recv.StreamConfig(max_heaps=4), spead2.recv.RingStreamConfig(heaps=256)
    )
    stream.add_tcp_reader(port, bind_hostname="127.0.0.1")
    say({"ready": spead2.__version__})
    heaps = breaks = wrong = 0
    runs = []
    last = None
    rest = [bytes([w]) * 61 for w in range(len(windows))]
    for heap in stream:
        timestamp = data = None
        for item in heap.get_items():
            if item.id == 0x1600:
                timestamp = item.immediate_value
            elif item.id == 0x3300:
                data = bytes(item)
        if data is None:
            continue
        heaps += 1
        window, number = data[0], data[1] << 8 | data[2]
        wrong += data[3:] != rest[window]
        if last is None or last[0] != window:
            runs.append([window, heap.cnt, timestamp, number])
            follows = number == 0
        else:
            follows = number == (last[3] + 1) % windows[window]
        if last is not None:
            follows = follows and heap.cnt == (last[1] + 1) % WIDTH and timestamp == (last[2] + step) % WIDTH
        breaks += not follows
        last = (window, heap.cnt, timestamp, number)
    say({"heaps": heaps, "breaks": breaks, "wrong": wrong, "runs": runs})


receive(**json.loads(sys.argv[1]))
