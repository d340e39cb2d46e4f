"""The steps of docs/tutorial.md with spead2 (Python), written from the text of spead2's tutorial. Prints the rate in MB/s."""

import argparse
import asyncio
import time

import numpy as np
import spead2
import spead2.send
import spead2.send.asyncio

MIB = 1024 * 1024


def settled() -> asyncio.Future:
    future = asyncio.get_running_loop().create_future()
    future.set_result(0)
    return future


async def send(args, stream, items) -> None:
    """One heap at a time."""
    for i in range(args.heaps):
        items["timestamp"].value = i * args.heap_size
        items["adc_samples"].value = np.full(args.heap_size, np.int_(i), np.int8)
        await stream.async_send_heap(items.get_heap())


async def pipeline(args, stream, items) -> None:
    """Two heaps under way, each in memory of its own."""
    previous = settled()
    for i in range(args.heaps):
        items["timestamp"].value = i * args.heap_size
        items["adc_samples"].value = np.full(args.heap_size, np.int_(i), np.int8)
        sent = stream.async_send_heap(items.get_heap())
        await previous
        previous = sent
    await previous


async def reuse_memory(args, stream, items) -> None:
    """Two heaps under way, in two arrays that take turns."""
    arrays = [np.ones(args.heap_size, np.int8) for _ in range(2)]
    futures = [settled() for _ in arrays]
    for i in range(args.heaps):
        k = i % len(arrays)
        await futures[k]
        arrays[k].fill(np.int_(i).astype(np.int8))
        items["timestamp"].value = i * args.heap_size
        items["adc_samples"].value = arrays[k]
        futures[k] = stream.async_send_heap(items.get_heap())
    await asyncio.gather(*futures)


async def reuse_heaps(args, stream, items) -> None:
    """1 MiB under way, of heaps that are made once and refer to their samples and timestamps."""
    count = max(2, MIB // args.heap_size)
    arrays = [np.ones(args.heap_size, np.int8) for _ in range(count)]
    timestamps = [np.array(0, ">u8") for _ in range(count)]
    heaps = []
    for k in range(count):
        items["timestamp"].value = timestamps[k]
        items["adc_samples"].value = arrays[k]
        heaps.append(items.get_heap(descriptors="none", data="all"))
    items["timestamp"].value = timestamps[0]
    items["adc_samples"].value = arrays[0]
    first = items.get_heap(descriptors="all", data="all")
    futures = [settled() for _ in range(count)]
    for i in range(args.heaps):
        k = i % count
        await futures[k]
        arrays[k].fill(np.int_(i).astype(np.int8))
        timestamps[k][()] = i * args.heap_size
        futures[k] = stream.async_send_heap(heaps[k] if i else first)
    await asyncio.gather(*futures)


async def batch_heaps(args, stream, items) -> None:
    """Two batches of 512 KiB that take turns."""
    count = max(1, MIB // 2 // args.heap_size)
    arrays = [np.ones((count, args.heap_size), np.int8) for _ in range(2)]
    timestamps = [np.ones(count, ">u8") for _ in range(2)]

    def references(k, descriptors):
        heaps = []
        for j in range(count):
            items["timestamp"].value = timestamps[k][j, ...]
            items["adc_samples"].value = arrays[k][j, ...]
            heap = items.get_heap(descriptors="none" if j else descriptors, data="all")
            heaps.append(spead2.send.HeapReference(heap))
        return spead2.send.HeapReferenceList(heaps)

    batches = [references(k, "none") for k in range(2)]
    first = references(0, "all")
    futures = [settled() for _ in range(2)]
    for i in range(0, args.heaps, count):
        k = i // count % 2
        end = min(i + count, args.heaps)
        await futures[k]
        arrays[k][: end - i] = np.arange(i, end).astype(np.int8)[:, np.newaxis]
        timestamps[k][: end - i] = np.arange(i * args.heap_size, end * args.heap_size, args.heap_size)
        heaps = batches[k] if i else first
        futures[k] = stream.async_send_heaps(heaps if end - i == count else heaps[: end - i], spead2.send.GroupMode.SERIAL)
    await asyncio.gather(*futures)


STEPS = [send, pipeline, pipeline, reuse_memory, reuse_heaps, batch_heaps]


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", "--heaps", type=int, default=250)
    parser.add_argument("-p", "--packet-size", type=int, default=1472)
    parser.add_argument("-H", "--heap-size", type=int, default=MIB)
    parser.add_argument("step", type=int, choices=range(1, 7))
    parser.add_argument("to", help="HOST:PORT")
    args = parser.parse_args()
    host, port = args.to.rsplit(":", 1)
    # At least as many as any step has under way.
    config = spead2.send.StreamConfig(rate=0.0, max_packet_size=args.packet_size, max_heaps=max(2, MIB // args.heap_size))
    stream = spead2.send.asyncio.UdpStream(spead2.ThreadPool(), [(host, int(port))], config)
    items = spead2.send.ItemGroup(flavour=spead2.Flavour(4, 64, 48))
    items.add_item(0x1600, "timestamp", "Index of the first sample", shape=(), format=[("u", 48)])
    items.add_item(0x3300, "adc_samples", "ADC converter output", shape=(args.heap_size,), dtype=np.int8)
    start = time.perf_counter()
    await STEPS[args.step - 1](args, stream, items)
    seconds = time.perf_counter() - start
    print(f"{args.heap_size * args.heaps / seconds / 1e6:.0f} MB/s")
    await stream.async_send_heap(items.get_end())


if __name__ == "__main__":
    asyncio.run(main())
