"""Run a program in a network namespace in which nothing but the loopback device is.

Open MPI's processes listen at all addresses of the machine, and believe whoever connects. Started like this::

    unshare --user --map-root-user --net python mpi_launch.py PROGRAM ARGUMENT...

they have no other address than that of the loopback device, which nobody else sees.
"""

import fcntl
import os
import socket
import struct
import sys

_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 0x1


def main() -> None:
    """Set the loopback device up, which a new namespace has down, and become the program."""
    with socket.socket() as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
