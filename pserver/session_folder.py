"""The private folder of a session."""

import contextlib
import json
import socket
import tempfile


def make_folder(control: socket.socket) -> str:
    """Make the private folder of the session; the daemon, which is told, removes it if this process is killed."""
    folder = tempfile.mkdtemp(prefix="pserver-")  # of mode 0700
    with contextlib.suppress(OSError):  # the daemon may be gone; networks go on
        control.send(json.dumps({"folder": folder}).encode())
    return folder
