"""Runs a command in which socket(2) knows a few address families only, as systemd's RestrictAddressFamilies= does it.

    cage.py AF_INET,AF_INET6,AF_UNIX COMMAND [ARGUMENT ...]

Other families fail with EAFNOSUPPORT (systemd.exec(5)); an io_uring is refused with EPERM, as by most containers' profiles.
"""

import ctypes
import os
import platform
import socket
import struct
import sys

# linux/prctl.h, linux/seccomp.h, linux/filter.h
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
EPERM, EAFNOSUPPORT = 1, 97
# struct seccomp_data: int nr, u32 arch, u64 instruction_pointer, u64 args[6]; little-endian
NUMBER, FIRST_ARGUMENT = 0, 16
SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
IO_URING_SETUP = 425


def program(families):
    def step(code, k, yes=0, no=0):
        return struct.pack("=HBBI", code, yes, no, k)

    steps = [
        step(LOAD_WORD, NUMBER),
        step(JUMP_EQUAL, IO_URING_SETUP, 0, 1),
        step(RETURN, RET_ERRNO | EPERM),
        step(JUMP_EQUAL, SOCKET, 1, 0),
        step(RETURN, RET_ALLOW),
        step(LOAD_WORD, FIRST_ARGUMENT),
    ]
    for i, family in enumerate(families):
        steps.append(step(JUMP_EQUAL, family, len(families) - i, 0))
    steps.append(step(RETURN, RET_ERRNO | EAFNOSUPPORT))
    steps.append(step(RETURN, RET_ALLOW))
    return steps


def main():
    families = [getattr(socket, name) for name in sys.argv[1].split(",")]
    steps = program(families)
    code = ctypes.create_string_buffer(b"".join(steps))
    # struct sock_fprog: u16 len, pointer
    prog = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [(PR_SET_NO_NEW_PRIVS, 1, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(prog))]
    for option, a, b in arguments:
        if libc.prctl(option, ctypes.c_ulong(a), ctypes.c_ulong(b), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option})")
    os.execvp(sys.argv[2], sys.argv[2:])


main()
