"""A client and a server with different protocol versions: each reports the mismatch with both numbers."""

import contextlib
import secrets
import socket
import sys
import textwrap
import threading
from pathlib import Path
from subprocess import run as run_process

import pytest

from pconnect import ConnectError, ConnectionLostError, pconnect
from pconnect.link.dialing import dial
from pconnect.link.missing_hosts import MissingHostsWarning
from pconnect.protocol import frames
from pconnect.protocol.frames import VERSION, Preamble, Purpose
from srp_tools.certificates import NetworkAuthority
from srp_tools.steps import deadline_after, run
from srp_tools.tls import TlsContexts
from tests.support.servers import Server, connect
from tests.support.waiting import DEADLINE

# Runs a program in which this package speaks another version, for all modules and from the start.
ANOTHER = """
import importlib.util, sys
name, version = "pconnect.protocol.frames", sys.argv.pop(1)
spec = importlib.util.find_spec(name)
source = spec.loader.get_source(name)
assert source.count("\\nVERSION = ") == 1
source = source.replace("\\nVERSION = ", f"\\nVERSION = {version}  # not ")
module = sys.modules[name] = importlib.util.module_from_spec(spec)
exec(compile(source, name, "exec"), module.__dict__)
import pconnect.protocol
pconnect.protocol.frames = module
"""
CONNECT = """
from pconnect import pconnect
host, user, password, use_tls = sys.argv[1:]
try:
    pconnect([host], user=user, password=password, use_tls=use_tls == "True", timeout=20)
except ConnectionError as error:
    print(type(error).__name__, error)
"""
both = pytest.mark.parametrize(
    ("version", "older_here", "older_there"),
    [(VERSION - 1, "this side", "the client"), (VERSION + 1, "the server", "this side")],
)


@pytest.fixture(params=["TLS", "plain"])
def either(request: pytest.FixtureRequest) -> Server:
    name = "server" if request.param == "TLS" else "plain_server"
    made: Server = request.getfixturevalue(name)
    return made


def words(peer: str, theirs: int, own: int, older: str) -> str:
    return f"{peer} speaks version {theirs} of the protocol, this side version {own}: {older} is older"


@both
def test_at_the_command_port(
    either: Server, version: int, older_here: str, older_there: str, tmp_path: Path
) -> None:
    user, password = either.credentials.user, either.credentials.password
    arguments = [str(version), either.host, user, password, str(either.use_tls)]
    before = either.log.count(words("the client", version, VERSION, older_there))
    client = run_process(
        [sys.executable, "-c", ANOTHER + textwrap.dedent(CONNECT), *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=tmp_path,
        check=False,
    )
    assert client.stderr == ""
    assert client.stdout.startswith("ConnectError ")
    assert either.host in client.stdout
    assert words("the server", VERSION, version, older_here) in client.stdout
    told = words("the client", version, VERSION, older_there)
    either.wait_for_log(told, before + 1)
    assert either.log.count(told) == before + 1


@both
def test_at_the_data_port(
    either: Server, version: int, older_here: str, older_there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = secrets.token_bytes(16)
    tls: TlsContexts | None = None
    if either.use_tls:
        tls = TlsContexts(NetworkAuthority(network).own_identity())
    monkeypatch.setattr(frames, "VERSION", version)
    told = words("the client", version, VERSION, older_there)
    before = either.log.count(told)
    dialling = dial([("127.0.0.1", either.data_port)], Preamble(Purpose.DATA, network, 0, 1), tls, 30.0)
    with pytest.raises(ConnectionLostError, match=words("the server", VERSION, version, older_here)):
        run(dialling, deadline_after(DEADLINE))
    either.wait_for_log(told, before + 1)


@both
def test_the_error_names_each_host(
    two_servers: list[Server],
    version: int,
    older_here: str,
    older_there: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frames, "VERSION", version)
    monkeypatch.setattr("pconnect.session.login.VERSION", version)
    with pytest.raises(ConnectError) as error:
        connect(two_servers)
    told = words("the server", VERSION, version, older_here)
    for server in two_servers:
        assert f"{server.host}: {told}" in str(error.value)
        line = words("the client", version, VERSION, older_there)
        server.wait_for_log(line)


def test_a_pool_of_mixed_versions_goes_on_without_the_others(
    plain_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(frames, "VERSION", VERSION + 1)
        answer = Preamble(Purpose.ACCEPTED).pack()

    def answer_all() -> None:
        with contextlib.suppress(OSError):  # the test has ended
            while True:
                newer, _ = listener.accept()
                with newer:
                    newer.sendall(answer)
                    newer.recv(100)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_all)
        thread.start()
        try:
            hosts = [plain_server.host, f"127.0.0.1:{listener.getsockname()[1]}"]
            with pytest.warns(
                MissingHostsWarning, match=words("the server", VERSION + 1, VERSION, "this side")
            ):
                net = pconnect(hosts, use_tls=False, required=False, profile="", timeout=DEADLINE)
            with net:
                assert list(net.missing) == hosts[1:]
                assert net.eval("sockets.node").result(DEADLINE) == [1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE)
