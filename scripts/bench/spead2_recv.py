"""spead2 as a telescope's receiver has it: its I/O thread puts heaps into chunks of memory (ChunkRingStream), Python sees a chunk.

  spead2_recv.py LIBRARY HEAP_BYTES PORT

LIBRARY is chunk_place.c as a shared object. Prints "ready", receives until stdin closes and half a second has passed, then prints one JSON row:
heaps that came whole, packets, and CPU seconds of this process between the two.
"""

import ctypes
import json
import socket
import sys
import threading
import time

import numpy as np
import spead2
import spead2.recv

SO_RCVBUFFORCE = 33
BUFFER_BYTES = (1 << 30) - 1
CHUNK_BYTES = 512 << 10
CHUNKS = 32


class Layout(ctypes.Structure):
    _fields_ = [("heap_bytes", ctypes.c_int64), ("heaps", ctypes.c_int64)]


def callback(library: ctypes.CDLL, layout: Layout):
    """What scipy.LowLevelCallable is to spead2: a tuple that begins with a capsule of the function and its argument."""
    api = ctypes.pythonapi
    api.PyCapsule_New.restype = ctypes.py_object
    api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    api.PyCapsule_SetContext.argtypes = [ctypes.py_object, ctypes.c_void_p]
    capsule = api.PyCapsule_New(ctypes.cast(library.place, ctypes.c_void_p), SIGNATURE, None)
    api.PyCapsule_SetContext(capsule, ctypes.addressof(layout))
    return (capsule,)


SIGNATURE = b"void (void *, size_t, void *)"


def main() -> None:
    library, heap_bytes, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    layout = Layout(heap_bytes, max(1, CHUNK_BYTES // heap_bytes))
    place = callback(ctypes.CDLL(library), layout)
    data = spead2.recv.ChunkRingbuffer(CHUNKS)
    stream = spead2.recv.ChunkRingStream(
        spead2.ThreadPool(),
        spead2.recv.StreamConfig(max_heaps=16, memcpy=spead2.MEMCPY_STD),
        spead2.recv.ChunkStreamConfig(items=[spead2.HEAP_CNT_ID, spead2.HEAP_LENGTH_ID], max_chunks=4, place=place),
        data,
        spead2.recv.ChunkRingbuffer(CHUNKS),
    )
    for _ in range(CHUNKS):
        stream.add_free_chunk(
            spead2.recv.Chunk(
                present=np.zeros(layout.heaps, np.uint8), data=np.zeros(layout.heaps * layout.heap_bytes, np.uint8)
            )
        )
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    sock.bind(("", port))
    stream.add_udp_reader(sock)
    print("ready", flush=True)
    cpu = time.process_time()

    heaps = 0

    def drain() -> None:
        nonlocal heaps
        for chunk in data:
            heaps += int(chunk.present.sum())
            stream.add_free_chunk(chunk)

    drainer = threading.Thread(target=drain)
    drainer.start()
    sys.stdin.read()
    time.sleep(0.5)
    cpu = time.process_time() - cpu
    stream.stop()
    drainer.join()
    packets = stream.stats["packets"]
    print(json.dumps({"heaps": heaps, "packets": packets, "cpuSeconds": cpu, "version": spead2.__version__}))


if __name__ == "__main__":
    main()
