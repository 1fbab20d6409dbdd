"""A server run by root: each session runs under its user's account, and cannot see other sessions."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pconnect import AuthenticationError, ConnectionLostError, JobLostError, pconnect, precv, reval
from pconnect.views.network_views import ClientNetwork
from srp_tools.verifier_file import VerifierFile
from tests.support.accounts import needs_root
from tests.support.hellos import hello_of
from tests.support.own_accounts import NUMBERS, accounts_server, passable_folder, password_of
from tests.support.servers import Server, engine_pids
from tests.support.waiting import wait_gone, wait_until

pytestmark = [needs_root, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with passable_folder() as path:
        yield path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with accounts_server(folder) as running:
        yield running


def log_in(server: Server, user: str, n: int = 1, **options: Any) -> ClientNetwork:
    return server.connect(n, user=user, password=password_of(user), **options)


def compute(net: ClientNetwork, expression: str) -> Any:
    """Return the value of an expression in the engine of the first node."""
    reval(f"import os, signal; psend({expression}, sockets[0])", net[1])
    return precv(net[1])


def attempt(net: ClientNetwork, statement: str) -> str:
    """Return the name of the error that a statement raises in an engine, or an empty text."""
    code = f"""
try:
    {statement}
except OSError as error:
    psend(type(error).__name__, sockets[0])
else:
    psend("", sockets[0])
"""
    reval(f"import os, signal\n{code}", net[1])
    return str(precv(net[1]))


def sessions_of(server: Server, user: str) -> list[int]:
    return [each["pid"] for each in server.status_now()["sessions"] if each["user"] == user]


@pytest.mark.parametrize("user", NUMBERS)
def test_a_session_has_the_account_of_its_user(server: Server, user: str) -> None:
    with log_in(server, user) as net:
        number = NUMBERS[user]
        assert compute(net, "[list(os.getresuid()), list(os.getresgid()), os.getgroups()]") == [
            [number] * 3,
            [number] * 3,
            [number],
        ]
        names = ("HOME", "USER", "LOGNAME", "SHELL")
        assert compute(net, f"[os.environ[name] for name in {names}]") == [
            f"/home/{user}",
            user,
            user,
            "/bin/sh",
        ]
        (session,) = server.sessions(net)
        tree = [psutil.Process(session), *psutil.Process(session).children(recursive=True)]
        assert {process.uids().real for process in tree} == {number}
        assert compute(net, "os.stat(os.environ.get('TMPDIR', '/tmp')).st_uid >= 0")


def test_users_see_nothing_of_each_other_and_of_the_server(server: Server, folder: Path) -> None:
    with log_in(server, "alice") as alice, log_in(server, "bob") as bob:
        engines = {user: engine_pids(net)[1] for user, net in (("alice", alice), ("bob", bob))}
        secrets = [server.folder / "log", *server.folder.rglob("tpasswd*")]
        assert len(secrets) >= 3
        for net, other in ((alice, "bob"), (bob, "alice")):
            (session,) = server.sessions(bob if other == "bob" else alice)
            assert attempt(net, f"os.listdir('/home/{other}')") == "PermissionError"
            for pid in (engines[other], session, server.process.pid):
                assert attempt(net, f"open('/proc/{pid}/mem', 'rb')") == "PermissionError"
                assert attempt(net, f"open('/proc/{pid}/environ', 'rb').read()") == "PermissionError"
                assert attempt(net, f"os.kill({pid}, signal.SIGTERM)") == "PermissionError"
            for path in secrets:
                assert attempt(net, f"open({str(path)!r}, 'rb')") == "PermissionError"
                assert attempt(net, f"os.remove({str(path)!r})") == "PermissionError"
            assert attempt(net, f"os.listdir({str(folder / 'spool')!r})") == "PermissionError"
        # Its own session holds the keys of its node and talks to the daemon, so its memory is private as well.
        (own,) = server.sessions(alice)
        assert attempt(alice, f"open('/proc/{own}/mem', 'rb')") == "PermissionError"
        assert compute(alice, "open('/proc/self/mem', 'rb').close() or 'open'") == "open"


def test_private_folders_are_closed_to_others_and_removed(server: Server) -> None:
    with log_in(server, "alice") as alice, log_in(server, "bob") as bob:
        place = Path(compute(alice, "str(session_files.parent)"))
        assert place.stat().st_uid == NUMBERS["alice"]
        assert place.stat().st_mode & 0o777 == 0o700
        assert attempt(bob, f"os.listdir({str(place)!r})") == "PermissionError"
        (session,) = server.sessions(alice)
        engine = engine_pids(alice)[1]
        os.kill(session, signal.SIGKILL)
        wait_gone(session, engine)
        wait_until(lambda: not place.exists(), "the folder of a session that was killed to be removed")
        assert attempt(bob, "os.getpid()") == ""


def test_detached_jobs_are_kept_in_a_folder_of_the_account(server: Server, folder: Path) -> None:
    net = log_in(server, "alice")
    pool = net.executor()
    job = pool.submit(time.sleep, 3)
    token = net.detach()
    place = folder / "spool" / str(server.status["name"]) / "accounts" / "alice"
    facts = place.stat()
    assert (facts.st_uid, facts.st_mode & 0o777) == (NUMBERS["alice"], 0o700)
    with log_in(server, "bob") as bob:
        assert attempt(bob, f"os.listdir({str(place)!r})") == "PermissionError"
    with pconnect(recover=token, user="alice", password=password_of("alice")) as again:
        assert [each.result() for each in again.jobs.values()] == [None]
    assert isinstance(job.exception(), JobLostError)


def test_a_user_without_an_account_is_like_an_unknown_one() -> None:
    names = ("alice", "carol", "root", "nobody")
    with passable_folder() as own, accounts_server(own, names=names) as server:
        texts = set()
        for user in (*names[1:], "unheard-of"):
            with pytest.raises(AuthenticationError) as caught:
                log_in(server, user)
            # The rest names the salt, which differs between users.
            texts.add(str(caught.value).replace(user, "USER").partition("if it does not show")[0])
        assert len(texts) == 1, texts
        with log_in(server, "alice") as net:
            assert compute(net, "os.getuid()") == NUMBERS["alice"]


def test_a_map_names_accounts() -> None:
    with passable_folder() as own:
        accounts = own / "accounts.toml"
        accounts.write_text('carol = "bob"\n')
        with (
            accounts_server(own, f"--account-map={accounts}", names=("carol",)) as server,
            log_in(server, "carol") as net,
        ):
            assert compute(net, "os.getuid()") == NUMBERS["bob"]


def test_an_engine_is_restarted_by_another_spawner_under_the_account(server: Server) -> None:
    with log_in(server, "alice") as net:
        (session,) = server.sessions(net)
        for child in psutil.Process(session).children():
            child.kill()
            wait_gone(child.pid)
        net[1].restart()
        assert compute(net, "os.getuid()") == NUMBERS["alice"]
        assert server.sessions(net) == [session]


def login_process(server: Server, user: str) -> tuple[socket.socket, psutil.Process]:
    """Begin a login; return it and the process that waits for the client's answer."""
    sock = socket.create_connection(("127.0.0.1", server.cmd_port), 20)
    sock.sendall(hello_of(user))
    assert sock.recv(5)  # it has answered, so it has the verifier
    starter = psutil.Process(server.process.pid)
    found = [each for each in starter.children(recursive=True) if each.uids().real == 65534]
    assert len(found) == 1
    return sock, found[0]


def test_the_login_process_can_do_nothing_and_has_one_verifier(server: Server) -> None:
    sock, process = login_process(server, "alice")
    with sock:
        status = Path(f"/proc/{process.pid}/status").read_text()
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert facts["Groups"].strip() == ""
        assert int(facts["CapPrm"], 16) == int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) & 0
        assert facts["NoNewPrivs"] == "1"
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert [line.split()[2:4] for line in limits.splitlines() if line.startswith("Max processes")] == [
            ["0", "0"]
        ]
        names = {path.name: str(path.readlink()) for path in Path(f"/proc/{process.pid}/fd").iterdir()}
        assert {name: target for name, target in names.items() if name in "012"} == dict.fromkeys(
            "012", "/dev/null"
        )
        others = [target for name, target in names.items() if name not in "012"]
        assert sorted(target.partition(":")[0] for target in others) == ["anon_inode", "socket", "socket"]
        memory = memory_of(process.pid)
    (path,) = [each for each in server.folder.rglob("tpasswd") if each.is_file()]
    verifiers = VerifierFile(path)
    seeds = [each.read_text().strip() for each in server.folder.rglob("*seed*")]
    assert seeds
    for secret in (bytes.fromhex(seeds[0]), seeds[0].encode()):
        assert secret not in memory
    assert is_in(memory, verifiers.find("alice").verifier)
    assert not is_in(memory, verifiers.find("bob").verifier)


def test_the_login_process_ends_with_its_session(server: Server) -> None:
    sock, process = login_process(server, "alice")
    with sock:
        session = process.parent()
        assert session is not None
        session.kill()
        wait_gone(process.pid, timeout=3)  # otherwise it would wait for --proof-timeout, 5 s


def is_in(memory: bytes, number: int) -> bool:
    """Return whether memory contains a number: as text, as bytes, or in the digits of Python's own format."""
    digits, rest = [], number
    while rest:
        digits.append((rest & (2**30 - 1)).to_bytes(4, "little"))
        rest >>= 30
    size = (number.bit_length() + 7) // 8
    forms = (
        number.to_bytes(size, "big"),
        number.to_bytes(size, "little"),
        f"{number:x}".encode(),
        b"".join(digits),
    )
    return any(form in memory for form in forms)


def memory_of(pid: int) -> bytes:
    """Return all writeable memory of a process."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode, *_ = line.split()
            if not mode.startswith("rw"):
                continue
            begin, end = (int(text, 16) for text in span.split("-"))
            memory.seek(begin)
            parts.append(memory.read(end - begin))
    return b"".join(parts)


def test_a_server_that_follows_a_killed_one_takes_no_session_of_an_account() -> None:
    """Otherwise any process of an account could claim to be a session, and then talk to root's daemon."""
    with passable_folder() as own, accounts_server(own) as first:
        net = log_in(first, "alice")
        reval("x = 42", net[1])
        (session,) = first.sessions(net)
        name = first.status["name"]
        first.process.kill()
        first.process.wait()
        with accounts_server(own, f"--name={name}") as second:
            path = next(own.rglob("*.sessions"))
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700
            with log_in(second, "bob") as bob:
                assert (
                    attempt(bob, f"__import__('socket').socket(1, 5).connect({str(path)!r})")
                    == "PermissionError"
                )
            assert sessions_of(second, "alice") == []
            assert compute(net, "x") == 42  # it now runs by itself
            net.close()
        wait_gone(session)


def test_a_user_who_was_removed_is_gone_with_all_processes() -> None:
    with passable_folder() as own, accounts_server(own) as server:
        (path,) = own.rglob("tpasswd")
        alice, bob = log_in(server, "alice"), log_in(server, "bob")
        job = bob[1].submit(time.sleep, 600)
        engine, (session,) = engine_pids(bob)[1], server.sessions(bob)

        def processes() -> list[int]:
            return [session, *(each.pid for each in psutil.Process(session).children(recursive=True))]

        wait_until(lambda: len(processes()) >= 4, "spawner, engine and worker")
        running = bob[1].eval("__import__('time').sleep(600)")
        found = processes()
        assert engine in found
        VerifierFile(path).remove("bob")
        server.process.send_signal(signal.SIGHUP)
        wait_gone(*found)
        for lost in (job, running):
            with pytest.raises(ConnectionLostError, match="this user was removed from the server"):
                lost.result(20)
        assert compute(alice, "os.getuid()") == NUMBERS["alice"]
        alice.close()
        with pytest.raises(AuthenticationError):
            log_in(server, "bob")
