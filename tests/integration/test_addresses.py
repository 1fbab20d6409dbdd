"""Servers that listen on several addresses."""

import os
import signal
from pathlib import Path

import pytest

from srp_tools.credentials import Credentials
from tests.support.networks import assert_works
from tests.support.servers import connect, run_server
from tests.support.waiting import DEADLINE


@pytest.mark.parametrize("options", [("--bind=127.0.0.1", "--bind=::1"), ("--bind=127.0.0.1,[::1]",)])
@pytest.mark.parametrize("use_tls", [True, False])
def test_a_server_is_found_at_each_of_its_addresses(
    tmp_path: Path, users: tuple[Credentials, Path], options: tuple[str, ...], use_tls: bool
) -> None:
    with run_server(tmp_path, *options, bind=None, users=users, use_tls=use_tls) as server:
        assert server.status["bind"] == ["127.0.0.1", "::1"]
        port = server.cmd_port
        for hosts in (f"127.0.0.1:{port}", f"[::1]:{port}", [f"127.0.0.1:{port}", f"[::1]:{port}"]):
            with connect([server], hosts=hosts, local_links=False) as net:
                assert_works(net)
        assert f"on 127.0.0.1, ::1, ports {port} (commands)" in server.log


def test_the_ports_of_a_server_that_was_killed_are_had_again_at_each(
    tmp_path: Path, users: tuple[Credentials, Path]
) -> None:
    options = ("--name=twice", "--bind=127.0.0.1,::1")
    with run_server(tmp_path, *options, bind=None, users=users) as first:
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(DEADLINE)
        with run_server(tmp_path, *options, bind=None, users=users) as second:
            assert (second.cmd_port, second.data_port) == (first.cmd_port, first.data_port)
            with connect([second], hosts=f"[::1]:{first.cmd_port}") as net:
                assert_works(net)
