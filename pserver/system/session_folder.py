"""The private folder of a session."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile


def make_folder(control: socket.socket, mark: int) -> str:
    """Make the private folder of a node.

    The daemon hears of it, and of the mark of the node's processes: it ends what is left if the session is killed.
    """
    folder = tempfile.mkdtemp(prefix="pserver-")  # of mode 0700
    with contextlib.suppress(OSError):  # the daemon may be gone; networks go on
        control.send(json.dumps({"folder": folder, "mark": mark}).encode())
    return folder


def remove_folder(folder: str | os.PathLike[str]) -> None:
    """Remove a folder with all that is in it, as far as that can be done."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # it calls itself for each folder in a folder; the system's program does not
        subprocess.run(
            ["/bin/rm", "-rf", "--", os.fspath(folder)], check=False, capture_output=True, timeout=60
        )
