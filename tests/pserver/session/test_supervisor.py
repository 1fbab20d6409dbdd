"""The supervisor: its answers while the engine is busy, and the order of the messages that it passes on."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import ConnectionLostError, EngineDiedError, RemoteError, network_get_info, precv, reval
from pconnect.protocol.kinds import Kind
from srp_tools.credentials import Credentials
from tests.support.servers import Server, run_server

LIMIT = 20.0
WAIT = "psend('here', sockets[0])\nwhile True: pass"


def test_it_answers_while_the_engine_is_busy(server: Server) -> None:
    with server.connect() as net:
        reval(WAIT, net)
        assert precv(net[1], timeout=LIMIT) == "here"
        info = network_get_info(net[1:])[0]
        assert (info["state"], info["queued"]) == ("open", 1)
        assert info["memory_bytes"] > 2**20
        assert info["load"] >= 0
        assert net.close() == []  # an interrupt suffices


def test_an_interrupt_ends_what_runs_and_what_waits(server: Server) -> None:
    with server.connect() as net:
        running, waiting = reval(WAIT, net), reval("x = 1", net)
        later = reval("psend('later', sockets[0])", net)
        assert precv(net[1], timeout=LIMIT) == "here"
        supervisor = net.mesh.servers[1]  # type: ignore[attr-defined]
        supervisor.interrupt(waiting.number)
        for command in (running, waiting):
            with pytest.raises(RemoteError, match="KeyboardInterrupt"):
                command.result(LIMIT)
        later.result(LIMIT)
        assert precv(net[1], timeout=LIMIT) == "later"


def test_an_engine_that_does_not_listen_is_killed_by_the_second_interrupt(server: Server) -> None:
    with server.connect() as net:
        deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + WAIT
        command = reval(deaf, net)
        assert precv(net[1], timeout=LIMIT) == "here"
        for _ in range(2):
            net.mesh.servers[1].interrupt()  # type: ignore[attr-defined]
        with pytest.raises(EngineDiedError, match="SIGKILL"):
            command.result(LIMIT)


def test_output_comes_before_the_end_of_its_command(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.connect() as net:
        source = (
            "import os, sys; print('z' * 100_000); os.write(1, b'raw\\n'); print('error', file=sys.stderr)"
        )
        reval(source, net).result(LIMIT)
        out, err = capsys.readouterr()
    assert out.count("z") == 100_000
    assert out.splitlines()[-1].endswith("] raw")
    assert err.endswith("] error\n")


def test_much_output_passes_in_portions(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with server.connect() as net:
        reval("for _ in range(64): print('x' * 2**16)", net).result(LIMIT)
        out, _ = capsys.readouterr()
    assert out.count("x") == 2**22


def test_the_last_words_of_an_engine_arrive(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with server.connect() as net:
        command = reval("import os; print('farewell'); os._exit(7)", net)
        with pytest.raises(EngineDiedError, match="exit status 7"):
            command.result(LIMIT)
        out, _ = capsys.readouterr()
        assert out.endswith("farewell\n")
        assert network_get_info(net[1:])[0]["state"] == "died"


def test_a_session_whose_engine_has_to_be_killed_ends_in_order(server: Server) -> None:
    with server.connect() as net:
        reval("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + WAIT, net)
        assert precv(net[1], timeout=LIMIT) == "here"
        (pid,) = server.sessions(net)
        net.mesh.event_loop.close()  # the client is gone
        net.mesh.closed = True
    server.wait_for_log(re.compile(rf"session {pid} of .* ended \(exit status 0\)"))


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("own"), users=users) as running:
        yield running


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.SETUP, 5),
        (Kind.SETUP, {}),
        (Kind.RESTART, [7, 1.0]),
        (Kind.RESTART, None),
        (Kind.RESTART, ["x", 1]),
    ],
)
def test_a_client_that_says_what_makes_no_sense_loses_its_session_and_the_log_says_why(
    own_server: Server, kind: Kind, value: object
) -> None:
    with own_server.connect() as net:
        command = net.mesh.servers[1].command  # type: ignore[attr-defined]
        command.post(kind, 1, value)
        command.flush()
        with pytest.raises(ConnectionLostError):
            reval("psend(precv(sockets[0]), sockets[0])", net).result(LIMIT)
    own_server.wait_for_log(f"its client is gone: {kind.name} makes no sense")
    assert "Traceback" not in own_server.log


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [("MESHED", 5, "MESHED makes no sense"), ("SETUP", 5, "SETUP is not for the supervisor's end")],
)
def test_an_engine_that_says_what_makes_no_sense_is_killed_with_the_reason(
    server: Server, kind: str, value: object, words: str
) -> None:
    speak = f"""
import gc
from pconnect.link.connection import Connection
from pconnect.protocol.kinds import Kind
[pipe] = [x for x in gc.get_objects() if type(x) is Connection and x._decoder.role.name == 'ENGINE']
pipe.post(Kind.{kind}, 0, {value!r})
pipe.flush()
import time; time.sleep(60)
"""
    with server.connect() as net, pytest.raises(EngineDiedError, match=words):
        reval(speak, net).result(LIMIT)
