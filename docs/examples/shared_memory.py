"""Writes samples into memory that shared-memory.ts sends from. Python's standard library only.

Descriptor 3 is the memory. It has places of some samples, which are filled in turn. A line on standard output says which place is full, and
a line on standard input says that a place may be written again. Arguments: samples of a place, the first fill and the one to end before.
"""
import mmap
import sys
from array import array

samples, first, end = map(int, sys.argv[1:])
memory = mmap.mmap(3, 0)
places = len(memory) // (2 * samples)
# Sample n is n % 10007, a signal of which every piece looks different.
signal = array("h", (n % 10007 for n in range(10007 + samples)))

for fill in range(first, end):
    if fill - first >= places and not sys.stdin.readline():
        break  # the sender has ended
    place = fill % places
    start = fill * samples % 10007
    memory[2 * place * samples : 2 * (place + 1) * samples] = signal[start : start + samples].tobytes()
    print(place, flush=True)
