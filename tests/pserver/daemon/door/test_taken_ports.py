"""The program that uses a port, and the advice."""

import errno
import os
import socket

import pytest

from pserver.daemon.door.taken_ports import cannot_listen
from pserver.system.pidfile import PidFile

pytestmark = pytest.mark.usefixtures("places")
IN_USE = OSError(errno.EADDRINUSE, "Address already in use (while attempting to bind)")


def test_another_program_is_named_with_the_options_that_help() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = str(cannot_listen("127.0.0.1", port, "--cmd-port", IN_USE))
    assert text.startswith(f"--cmd-port: cannot listen on port {port} (127.0.0.1): Address already in use; ")
    assert f"(pid {os.getpid()}) listens there: end that program, or" in text
    assert "--cmd-port 0 --data-port 0" in text


@pytest.mark.parametrize("key", ["cmd_port", "data_port"])
def test_another_server_is_named_with_the_command_that_ends_it(key: str) -> None:
    with PidFile("other-one") as file:
        file.write({"name": "other-one", "pid": os.getpid(), key: 12502})
        text = str(cannot_listen(None, 12502, "--data-port", IN_USE))
    assert text.startswith("--data-port: cannot listen on port 12502 (all addresses): ")
    assert f"the server 'other-one' (pid {os.getpid()}) listens there" in text
    assert "pserver stop --name other-one, or give this server another --name and other ports" in text


def test_who_has_gone_meanwhile_is_not_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "in use; choose another port: --cmd-port 0" in str(cannot_listen(None, port, "--cmd-port", IN_USE))


def test_other_reasons_have_other_remedies() -> None:
    denied = str(cannot_listen(None, 80, "--cmd-port", OSError(errno.EACCES, "Permission denied")))
    assert denied.endswith("Permission denied; ports below 1024 need root: choose a higher port")
    absent = OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
    assert "choose another address with --bind" in str(cannot_listen("192.0.2.1", 0, "--cmd-port", absent))
