"""Writes into a file that it inherits as descriptor 3 and maps. Standard library only.

Each line on stdin, OFFSET LENGTH BYTE, is answered by 'done'.
"""
import mmap
import sys

memory = mmap.mmap(3, 0)
for line in sys.stdin:
    offset, length, byte = map(int, line.split())
    memory[offset : offset + length] = bytes([byte]) * length
    print("done", flush=True)
