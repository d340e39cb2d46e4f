"""Runs a command in a terminal of its own and copies what it writes there.

    in_terminal.py COLUMNS ROWS COMMAND ARGUMENT...

Standard output, standard error and standard input of the command are the terminal. Exits as the command does.
"""
import fcntl
import os
import pty
import struct
import sys
import termios

columns, rows = int(sys.argv[1]), int(sys.argv[2])
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.execvp(sys.argv[3], sys.argv[3:])
while True:
    try:
        data = os.read(terminal, 65536)
    except OSError:  # EIO: the command has closed it
        break
    if not data:
        break
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
