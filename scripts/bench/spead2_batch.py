"""The spead2 tutorial's batching program (HeapReferenceList), written anew from the tutorial's text, SPEAD-64-48.

Prints one JSON row. `seconds` runs from the fill of the first heap behind --warmup-heaps to the last completion; the stop heap
follows outside the clock. payloadBytes counts the timed heaps, packets and udpBytes all that was put on the wire.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field

import numpy as np
import spead2
import spead2.send
import spead2.send.asyncio


def settled() -> asyncio.Future:
    future = asyncio.get_running_loop().create_future()
    future.set_result(0)
    return future


@dataclass
class State:
    adc_samples: np.ndarray
    timestamps: np.ndarray
    heaps: spead2.send.HeapReferenceList
    future: asyncio.Future = field(default_factory=settled)


def wire_size(item_group, descriptors: str, packet_size: int) -> tuple[int, int]:
    """Packets and UDP bytes that spead2 makes of one heap."""
    heap = item_group.get_heap(descriptors=descriptors, data="all")
    sizes = [len(packet) for packet in spead2.send.PacketGenerator(heap, 1, packet_size)]
    return len(sizes), sum(sizes)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--heap-size", type=int, default=8192)
    parser.add_argument("--heaps", type=int, default=1000)
    parser.add_argument("--packet-size", type=int, default=9000)
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--batch-bytes", type=int, default=512 * 1024)
    parser.add_argument("--warmup-heaps", type=int, default=0)
    parser.add_argument("to", help="HOST:PORT")
    args = parser.parse_args()
    host, port = args.to.rsplit(":", 1)
    heap_size, n_heaps = args.heap_size, args.warmup_heaps + args.heaps
    batch_heaps = max(1, args.batch_bytes // heap_size)
    if args.warmup_heaps % batch_heaps:
        parser.error(f"--warmup-heaps must be a multiple of the {batch_heaps} heaps of a batch")

    config = spead2.send.StreamConfig(
        rate=0.0, max_packet_size=args.packet_size, max_heaps=args.batches * batch_heaps
    )
    stream = spead2.send.asyncio.UdpStream(spead2.ThreadPool(), [(host, int(port))], config)
    item_group = spead2.send.ItemGroup(flavour=spead2.Flavour(4, 64, 48))
    item_group.add_item(0x1600, "timestamp", "Index of the first sample", shape=(), format=[("u", 48)])
    item_group.add_item(0x3300, "adc_samples", "ADC converter output", shape=(heap_size,), dtype=np.int8)

    def make_heaps(adc_samples, timestamps, first):
        heaps = []
        for j in range(batch_heaps):
            item_group["timestamp"].value = timestamps[j, ...]
            item_group["adc_samples"].value = adc_samples[j, ...]
            heap = item_group.get_heap(descriptors="none" if j or not first else "all", data="all")
            heaps.append(spead2.send.HeapReference(heap))
        return spead2.send.HeapReferenceList(heaps)

    states = []
    for _ in range(args.batches):
        adc_samples = np.ones((batch_heaps, heap_size), np.int8)
        timestamps = np.ones(batch_heaps, ">u8")
        states.append(State(adc_samples, timestamps, make_heaps(adc_samples, timestamps, False)))
    first_heaps = make_heaps(states[0].adc_samples, states[0].timestamps, True)
    first_packets, first_bytes = wire_size(item_group, "all", args.packet_size)
    packets, udp_bytes = wire_size(item_group, "none", args.packet_size)

    for i in range(0, n_heaps, batch_heaps):
        if i == args.warmup_heaps:
            cpu = time.process_time()
            start = time.perf_counter()
        state = states[(i // batch_heaps) % len(states)]
        end = min(i + batch_heaps, n_heaps)
        n = end - i
        await state.future  # its previous use has completed
        state.adc_samples[:n] = np.arange(i, end).astype(np.int8)[:, np.newaxis]
        state.timestamps[:n] = np.arange(i * heap_size, end * heap_size, heap_size)
        heaps = state.heaps if i else first_heaps
        if n < batch_heaps:
            heaps = heaps[:n]
        state.future = stream.async_send_heaps(heaps, spead2.send.GroupMode.SERIAL)
    for state in states:
        await state.future
    seconds = time.perf_counter() - start
    cpu = time.process_time() - cpu

    stop_bytes = await stream.async_send_heap(item_group.get_end())
    print(
        json.dumps(
            {
                "program": "spead2",
                "heapSizeBytes": heap_size,
                "heaps": args.heaps,
                "warmupHeaps": args.warmup_heaps,
                "packetSizeBytes": args.packet_size,
                "batches": args.batches,
                "batchHeaps": batch_heaps,
                "packets": first_packets + (n_heaps - 1) * packets + 1,
                "payloadBytes": args.heaps * heap_size,
                "udpBytes": first_bytes + (n_heaps - 1) * udp_bytes + stop_bytes,
                "seconds": seconds,
                "payloadBytesPerSecond": round(args.heaps * heap_size / seconds),
                "cpuSeconds": cpu,
                "version": spead2.__version__,
            },
            separators=(",", ":"),
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
