"""Run a program in a network namespace that contains only the loopback device.

Open MPI's processes listen on all addresses of the machine, and trust all connections. Started like this::

    unshare --user --map-root-user --net python mpi_launch.py PROGRAM ARGUMENT...

they have only the address of the loopback device, which other processes cannot reach.
"""

import fcntl
import os
import socket
import struct
import sys

_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 0x1


def main() -> None:
    """Enable the loopback device, which is down in a new namespace, and run the program."""
    with socket.socket() as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
