"""The agent on this host, with the environment of the tests in place of a new one."""

import contextlib
import fcntl
import io
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import pconnect
from pserver.deploy import agent
from pserver.system.pidfile import find_server, list_servers, stop_server
from srp_tools import generate_srp_data
from tests.support.deploying import free_ports, lend_environment, read_record
from tests.support.places import use_private_places


class Host:
    """Carries out requests like the other end of ssh."""

    def __init__(self, folder: Path) -> None:
        self.place = agent.place_of("default")
        self.users = generate_srp_data(
            "alice", "correct horse battery", bits=2048, folder=folder / "srp"
        ).server
        self.cmd_port, self.data_port = free_ports()
        self.steps: list[str] = []
        self.on_step: Callable[[], object] = lambda: None

    def do(self, request: dict[str, Any], *contents: bytes) -> dict[str, Any]:
        said: dict[str, Any] = {}

        def say(**facts: Any) -> None:
            said.update(facts)
            if "step" in facts:
                self.steps.append(facts["step"])
                self.on_step()

        given = io.BytesIO(
            json.dumps({"name": "default", "force": False} | request).encode() + b"\n" + b"".join(contents)
        )
        status = agent.main(given, say)
        assert ("error" in said) == bool(status)
        return said

    def record(self, environment: str = "env-a", *options: str) -> dict[str, Any]:
        ports = [
            f"--cmd-port={self.cmd_port}",
            f"--data-port={self.data_port}",
            "--bind=127.0.0.1",
            "--allow-root",
        ]
        usual = [*ports, "--auth-file={place}/server/tpasswd", "--log-file={place}/log"]
        return {"environment": environment, "options": [*usual, *options], "users": "u"}

    def deploy(self, record: dict[str, Any], **more: Any) -> dict[str, Any]:
        paths = [self.users.with_name(f"tpasswd{suffix}") for suffix in ("", ".conf")]
        contents = [path.read_bytes() for path in paths]
        files = [(f"server/{path.name}", len(data)) for path, data in zip(paths, contents, strict=True)]
        request = {"do": "deploy", "record": record, "packages": [], "files": files}
        return self.do(request | more, *contents)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    use_private_places(tmp_path, monkeypatch)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    yield Host(tmp_path)
    for server in list_servers():
        stop_server(server.name)


def pid() -> int | None:
    server = find_server("default")
    return None if server is None else server.pid


def test_looking_at_a_host_changes_nothing(host: Host) -> None:
    done = host.do({"do": "look"})["done"]
    assert (done["record"], done["status"], done["environments"]) == (None, None, [])
    assert not host.place.exists()


@pytest.mark.slow
def test_a_server_is_started_and_is_restarted_only_if_it_differs(host: Host) -> None:
    lend_environment(host.place, "env-a")
    done = host.deploy(host.record())["done"]
    assert (done["status"]["cmd_port"], done["status"]["data_port"]) == (host.cmd_port, host.data_port)
    first = pid()
    assert host.steps == ["starting the server"]
    assert host.do({"do": "look"})["done"]["record"] == host.record()
    with pconnect(f"127.0.0.1:{host.cmd_port}", user="alice", password="correct horse battery") as net:
        assert net.eval("1 + 1").result() == [2]
    assert host.deploy(host.record())["done"]
    assert (pid(), host.steps) == (first, ["starting the server"])
    said = host.deploy(host.record("env-a", "--slots=1"))
    assert "done" in said, said
    assert said["done"]["status"]["slots"]["total"] == 1
    assert pid() not in {first, None}


@pytest.mark.slow
def test_users_whom_the_running_server_would_refuse_are_not_copied(host: Host) -> None:
    lend_environment(host.place, "env-a")
    host.deploy(host.record())
    first, users = pid(), (host.place / "server/tpasswd").read_bytes()
    generate_srp_data(
        "bob", "correct horse battery", bits=2048, folder=host.users.parents[1], client_file=False
    )
    more = host.record() | {"users": "more"}
    said = host.deploy(more)
    assert said["error"].startswith("cannot copy the users: 2 users could log in, "), said
    assert "start with --shared-account" in said["error"]
    assert (host.place / "server/tpasswd").read_bytes() == users
    assert (pid(), read_record(host.place)) == (first, host.record())
    assert "done" in host.deploy(host.record("env-a", "--shared-account"))
    assert pid() not in {first, None}
    assert (host.place / "server/tpasswd").read_bytes() == host.users.read_bytes()


def test_all_is_in_one_folder_that_is_private(host: Host) -> None:
    lend_environment(host.place, "env-a")
    lend_environment(host.place, "env-old")
    host.deploy(host.record())
    assert stat.S_IMODE(host.place.stat().st_mode) == 0o700
    assert {path.name for path in host.place.iterdir()} == {"env-a", "server", "log", "record.json"}
    for path in (host.place / "server").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (host.place / "server/tpasswd").read_bytes() == host.users.read_bytes()
    assert read_record(host.place) == host.record()


@pytest.mark.slow
def test_a_server_that_is_used_is_neither_restarted_nor_removed(host: Host) -> None:
    lend_environment(host.place, "env-a")
    host.deploy(host.record())
    first = pid()
    with pconnect(f"127.0.0.1:{host.cmd_port}", user="alice", password="correct horse battery") as net:
        assert (
            "a network uses the server (users: alice)"
            in host.deploy(host.record("env-a", "--slots=1"))["error"]
        )
        assert "a network uses" in host.do({"do": "remove"})["error"]
        assert "done" in host.deploy(host.record())  # new users need no restart
        assert net.eval("3").result() == [3]
        assert pid() == first
        assert "done" in host.deploy(host.record("env-a", "--slots=1"), force=True)
        assert pid() != first


def test_somebody_who_comes_while_it_installs_is_not_cut_off(host: Host) -> None:
    lend_environment(host.place, "env-a")
    host.deploy(host.record())
    first = pid()
    with contextlib.ExitStack() as stack:
        host.on_step = lambda: stack.enter_context(
            pconnect(f"127.0.0.1:{host.cmd_port}", user="alice", password="correct horse battery")
        )
        assert "a network uses the server" in host.deploy(host.record("env-a", "--slots=1"))["error"]
        assert pid() == first


def test_a_broken_environment_comes_with_what_to_do(host: Host) -> None:
    lend_environment(host.place, "env-a")
    (host.place / "record.json").write_text(json.dumps(host.record()))
    (host.place / "env-a/bin/python").write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    said = host.do({"do": "look"})
    assert said["error"].startswith("cannot get the state of the server: broken; ")
    assert f"remove {host.place}" in said["error"]


@pytest.mark.slow
def test_a_server_that_cannot_start_is_reported_and_the_old_one_goes_on(host: Host) -> None:
    lend_environment(host.place, "env-a")
    host.deploy(host.record())
    said = host.deploy(host.record("env-a", "--bind=192.0.2.1", "--allow-root"))
    assert "pserver start: " in said["error"]
    assert pid() is not None
    assert read_record(host.place) == host.record()


def test_remove_leaves_what_others_made(host: Host, tmp_path: Path) -> None:
    lend_environment(host.place, "env-a")
    host.deploy(host.record())
    other = agent.place_of("other")
    other.mkdir()
    assert host.do({"do": "remove"})["done"] == {"removed": str(host.place), "cmd_port": host.cmd_port}
    assert pid() is None
    assert not host.place.exists()
    assert other.exists()
    assert host.do({"do": "remove", "name": "other"})["done"] == {"removed": str(other), "cmd_port": None}
    assert [path.name for path in (tmp_path / "data").iterdir()] == []
    assert host.do({"do": "remove"})["done"] == {"removed": None, "cmd_port": None}


def test_another_deploy_at_the_same_time_is_refused(host: Host) -> None:
    lend_environment(host.place, "env-a")
    descriptor = os.open(host.place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert "another pserver deploy is running" in host.deploy(host.record())["error"]
    finally:
        os.close(descriptor)
    assert "done" in host.deploy(host.record())


def test_files_that_do_not_come_whole_are_an_error(host: Host) -> None:
    lend_environment(host.place, "env-a")
    said = host.deploy(host.record(), files=[["server/tpasswd", 10**6]])
    assert said == {"error": "the connection ended before all files had arrived"}
    assert not (host.place / "server").exists()
    assert list(host.place.glob("incoming-*")) == []


@pytest.mark.slow
def test_an_installation_that_fails_comes_with_what_to_do(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said = host.deploy(host.record("env-b"), packages=["numpy==0"], files=[])
    assert "cannot install the packages" in said["error"]
    assert "--wheels" in said["error"]
    assert not (host.place / "env-b/complete").exists()
    assert pid() is None


def test_who_can_be_reached(host: Host) -> None:
    lend_environment(host.place, "env-a")
    host.deploy(host.record())
    free, _ = free_ports()
    targets = [
        ["a", ["127.0.0.1"], host.data_port],
        ["b", ["127.0.0.1"], free],
        ["c", ["127.0.0.1", "::1"], free],
        ["d", [], 1],
    ]
    failures = host.do({"do": "reach", "targets": targets})["done"]["failures"]
    assert failures["b"] == f"127.0.0.1 port {free}: Connection refused"
    assert failures["d"] == "it has no address"
    assert list(failures) == ["b", "c", "d"]
