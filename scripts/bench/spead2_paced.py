"""spead2's side of --measure pacing and --measure streams: as paced.mjs, with prepared lists of heaps as in spead2_batch.py.

spead2 takes a rate in bytes per second of UDP payload, as speadcast does.
"""

import argparse
import asyncio
import json
import math
import re
import time

import numpy as np
import spead2
import spead2.send
import spead2.send.asyncio

FRAME_OVERHEAD_BYTES = 42
TRIES = 100
IN_FLIGHT_SECONDS = 0.05


def look(interface: str) -> tuple[float, int, float]:
    """Clock, UDP bytes and CPU seconds, as near to one another as they can be read."""

    def counter(name: str) -> int:
        with open(f"/sys/class/net/{interface}/statistics/rx_{name}") as file:
            return int(file.read())

    best = None
    for _ in range(TRIES):
        before = time.perf_counter()
        udp_bytes = counter("bytes") - counter("packets") * FRAME_OVERHEAD_BYTES
        after = time.perf_counter()
        if best is None or after - before < best[0]:
            best = (after - before, (before + after) / 2, udp_bytes)
        if best[0] < 50e-6:
            break
    return best[1], best[2], time.process_time()


def status(name: str) -> int:
    with open("/proc/self/status") as file:
        return int(re.search(rf"^{name}:\s+(\d+)", file.read(), re.MULTILINE).group(1))


class Sender:
    """A stream and the batches that it sends in turn."""

    def __init__(self, stream, heap_size: int, batch_heaps: int, batches: int, packet_size: int) -> None:
        self.stream = stream
        self.heap_size = heap_size
        self.batch_heaps = batch_heaps
        self.settled: list[float] = []
        items = spead2.send.ItemGroup(flavour=spead2.Flavour(4, 64, 48))
        items.add_item(0x1600, "timestamp", "Index of the first sample", shape=(), format=[("u", 48)])
        items.add_item(0x3300, "adc_samples", "ADC converter output", shape=(heap_size,), dtype=np.int8)
        self.ring = []
        for _ in range(batches):
            samples = np.ones((batch_heaps, heap_size), np.int8)
            timestamps = np.ones(batch_heaps, ">u8")
            heaps = []
            for j in range(batch_heaps):
                items["timestamp"].value = timestamps[j, ...]
                items["adc_samples"].value = samples[j, ...]
                heaps.append(spead2.send.HeapReference(items.get_heap(descriptors="none", data="all")))
            self.ring.append((samples, timestamps, spead2.send.HeapReferenceList(heaps)))
        packets = [len(packet) for packet in spead2.send.PacketGenerator(items.get_heap("none", "all"), 1, packet_size)]
        self.heap_udp_bytes = sum(packets)

    async def keep_sending(self, running: list[bool]) -> None:
        futures: list = [None] * len(self.ring)
        b = 0
        while running[0]:
            place = b % len(self.ring)
            samples, timestamps, heaps = self.ring[place]
            if futures[place] is not None:
                await futures[place]
            first, n = b * self.batch_heaps, self.batch_heaps
            samples[:] = np.arange(first, first + n).astype(np.int8)[:, np.newaxis]
            timestamps[:] = np.arange(first * self.heap_size, (first + n) * self.heap_size, self.heap_size)
            futures[place] = self.stream.async_send_heaps(heaps, spead2.send.GroupMode.SERIAL)
            futures[place].add_done_callback(lambda _: self.settled.append(time.perf_counter()))
            b += 1
        await asyncio.gather(*(future for future in futures if future is not None))

    def rate(self, first: float, last: float) -> float:
        inside = [at for at in self.settled if first <= at <= last]
        if len(inside) < 2:
            return 0.0
        return (len(inside) - 1) * self.batch_heaps * self.heap_udp_bytes / (inside[-1] - inside[0])


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, required=True, help="bytes per second of each stream")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the pool")
    parser.add_argument("--heap-size", type=int, default=8192)
    parser.add_argument("--batch-heaps", type=int, default=64)
    parser.add_argument("--packet-size", type=int, default=9000)
    parser.add_argument("--warmup-seconds", type=float, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--interface", required=True)
    parser.add_argument("to", help="HOST:PORT of the first stream")
    args = parser.parse_args()
    host, port = args.to.rsplit(":", 1)
    # At least the two batches of the tutorial.
    batches = max(2, math.ceil(IN_FLIGHT_SECONDS * args.rate / (args.batch_heaps * args.heap_size)))
    config = spead2.send.StreamConfig(
        rate=args.rate, max_packet_size=args.packet_size, max_heaps=batches * args.batch_heaps
    )
    pool = spead2.ThreadPool(args.threads)
    senders = [
        Sender(
            spead2.send.asyncio.UdpStream(pool, [(host, int(port) + i)], config),
            *(args.heap_size, args.batch_heaps, batches, args.packet_size),
        )
        for i in range(args.streams)
    ]
    running = [True]
    sending = asyncio.gather(*(sender.keep_sending(running) for sender in senders))
    await asyncio.sleep(args.warmup_seconds)
    first, first_bytes, first_cpu = look(args.interface)
    await asyncio.sleep(args.seconds)
    last, last_bytes, last_cpu = look(args.interface)
    threads, rss_bytes = status("Threads"), status("VmRSS") * 1024
    running[0] = False
    await sending
    print(
        json.dumps(
            {
                "program": "spead2",
                "streams": args.streams,
                "rateBytesPerSecond": args.rate,
                "heapSizeBytes": args.heap_size,
                "batches": batches,
                "batchHeaps": args.batch_heaps,
                "seconds": last - first,
                "udpBytes": last_bytes - first_bytes,
                "streamRates": [sender.rate(first, last) for sender in senders],
                "cpuSeconds": last_cpu - first_cpu,
                "threads": threads,
                "rssBytes": rss_bytes,
                "version": spead2.__version__,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
