"""The output of engines: complete, in order, and before the end of its command; and floods of output.

`FLOOD_BYTES` is small for daily use; the tests also pass with 100 MB, which takes half a minute.
"""

import contextlib
import io
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pconnect import Command, EngineDiedError, Network, precv, quiet, reval
from tests.support.clients import ClientProcess
from tests.support.memory import Peak
from tests.support.servers import Server

LIMIT = 100.0
FLOOD_BYTES = 10_000_000
LINE_BYTES = 100
FLOOD = f"for i in range({FLOOD_BYTES // LINE_BYTES}): print(f'{{i:0{LINE_BYTES - 1}}}')"
MIB = 2**20
# The growth in memory allowed to client and supervisors, for a flood of any size.
MAX_GROWTH = 20 * MIB


class Counter(io.StringIO):
    """A stream that checks and counts numbered lines instead of keeping the text."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = {1: 0, 2: 0}
        self.dropped = {1: 0, 2: 0}
        self.received = {1: 0, 2: 0}
        self.disorder = 0
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            prefix, words = line.split("] ", 1)
            node = int(prefix[1])
            if found := re.match(r"\((\d+) bytes of output were dropped", words):
                self.dropped[node] += int(found[1])
                continue
            self.received[node] += len(words) + 1
            self.disorder += words != f"{self.lines[node]:0{LINE_BYTES - 1}}"
            self.lines[node] += 1
        return len(text)


def peak_of(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_children_and_c_code_print_through_the_same_descriptors(network: Callable[..., Network]) -> None:
    net = network()
    with quiet(net):
        command = reval(
            """
            import ctypes, os, subprocess, sys
            print("python")
            os.system("echo child")
            os.write(1, b"raw\\n")
            libc = ctypes.CDLL(None)
            libc.puts(b"C")
            libc.fflush(None)
            os.system("echo error >&2")
            print("python again", file=sys.stderr)
            """,
            net[1],
        )
        command.result(LIMIT)
    assert command.stdout == "python\nchild\nraw\nC\n"
    assert command.stderr == "error\npython again\n"


def test_a_command_has_all_it_printed_when_it_ends_and_nothing_else(network: Callable[..., Network]) -> None:
    net = network()
    with quiet(net):
        sent = [reval(f"print('{number} ' * {1 + number % 7 * 1000})", net[1]) for number in range(200)]
        for number, command in enumerate(sent):
            command.result(LIMIT)
            assert command.stdout == f"{number} " * (1 + number % 7 * 1000) + "\n"


def test_the_end_of_a_command_does_not_overtake_what_waits_for_the_client(
    network: Callable[..., Network],
) -> None:
    net = network()
    size = 60_000  # it fits into the pipe, so the command ends whether it is read or not
    source = f"print('x' * {size // 2 - 1}); print('x' * {size // 2})"
    with quiet(net):
        sent = [reval(source, net[1]) for _ in range(100)]
        for number, command in enumerate(sent):
            if number % 10 == 0:
                time.sleep(0.1)  # and receive nothing; the result does not depend on this time
            command.result(LIMIT)
            dropped = re.match(r"\((\d+) bytes of output were dropped", command.stdout)
            printed = len(command.stdout) - (dropped.string.index("\n") + 1 if dropped else 0)
            assert printed + int(dropped[1] if dropped else 0) == size + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["server", "plain_server"])
def test_a_client_that_waits_gets_a_flood_whole_and_in_order(
    name: str, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(name)
    with server.connect(2) as net, contextlib.redirect_stdout(Counter()) as counter:
        supervisors = server.sessions(net)
        before = [peak_of(pid) for pid in supervisors]
        peak = Peak()
        command = reval(FLOOD, net)
        command.result(LIMIT)
        assert peak.grown < MAX_GROWTH
        for pid, peak_before in zip(supervisors, before, strict=True):
            assert peak_of(pid) - peak_before < MAX_GROWTH
    assert counter.disorder == 0
    assert counter.dropped == {1: 0, 2: 0}
    assert counter.received == {1: FLOOD_BYTES, 2: FLOOD_BYTES}
    for text in command.stdout:
        notice, rest = text.split("\n", 1)
        assert notice == f"({FLOOD_BYTES - MIB} bytes before the last {MIB} were cut off)"
        assert rest.endswith(f"{FLOOD_BYTES // LINE_BYTES - 1}\n")


@pytest.mark.slow
def test_engines_do_not_wait_for_a_client_that_computes(server: Server) -> None:
    with server.connect(2) as net, contextlib.redirect_stdout(Counter()) as counter:
        supervisors = server.sessions(net)
        before = [peak_of(pid) for pid in supervisors]
        finished = server.folder / "finished"
        command = reval(FLOOD, net)
        reval(f"import pathlib; pathlib.Path({str(finished)!r} + str(sockets.node)).touch()", net)
        deadline = time.monotonic() + LIMIT
        # Without any call of the library.
        while not all(Path(f"{finished}{node}").exists() for node in (1, 2)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        command.result(LIMIT)
        for pid, peak_before in zip(supervisors, before, strict=True):
            assert peak_of(pid) - peak_before < MAX_GROWTH
    for node in (1, 2):
        assert counter.dropped[node] > FLOOD_BYTES // 2
        assert counter.dropped[node] + counter.received[node] == FLOOD_BYTES
        assert f"{counter.dropped[node]} bytes of output were dropped" in command[node - 1].stdout


@pytest.mark.slow
def test_ctrl_c_ends_a_flood_within_a_second(server: Server) -> None:
    script = """
terminal, sys.stdout = sys.stdout, open(os.devnull, "w")
command = reval("while True: print('x' * 99)", net)
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
while len(command[1].stdout) < 2**19 or len(command[0].stdout) < 2**19:
    command.done()
signal.setitimer(signal.ITIMER_REAL, 0.5)
begin = time.monotonic()
try:
    command.result()
except KeyboardInterrupt:
    print(time.monotonic() - begin - 0.5, file=terminal, flush=True)
types = [each.exception(10).type_name for each in command]
sys.stdout = terminal
say(*types)
reval("psend('alive', sockets[0])", net)
say(*[precv(c, timeout=10) for c in net[1:]])
say("closed", sclose(net))
"""
    with ClientProcess(script, server, server) as client:
        assert float(client.line()) < 1.0
        assert client.line() == "KeyboardInterrupt KeyboardInterrupt"
        assert client.line() == "alive alive"
        assert client.line() == "closed []"


def test_what_an_engine_printed_last_is_in_the_account_of_its_death(two_servers: list[Server]) -> None:
    with two_servers[0].connect() as net, quiet(net):
        command = reval(
            "print('one')\nprint('two')\nimport os, signal; os.kill(os.getpid(), signal.SIGSEGV)", net[1]
        )
        with pytest.raises(EngineDiedError) as died:
            command.result(LIMIT)
    assert 'died: SIGSEGV in command "print(' in str(died.value)
    assert str(died.value).endswith("; its last output:\none\ntwo")


def test_a_network_survives_a_reader_that_is_gone(
    network: Callable[..., Network], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    net = network()
    reader, writer = os.pipe()
    os.close(reader)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", os.fdopen(writer, "w", closefd=False))
        command = reval("for i in range(1000): print(i)", net[1])
        command.result(LIMIT)
        assert command.stdout.endswith("998\n999\n")
        assert "stdout is no longer shown: [Errno 32] Broken pipe" in caplog.text
        assert len(caplog.records) == 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # otherwise the stream could not be closed
        sys.stdout.close()
    reval("psend('alive', sockets[0])", net)
    assert precv(net[1], timeout=LIMIT) == "alive"


def test_what_is_printed_before_a_display_comes_before_it(network: Callable[..., Network]) -> None:
    net = network()
    seen: list[str] = []

    class Recorder:
        max_shown_bytes = None

        def write(self, node: int, host: str, stream: int, text: str, command: Command | None) -> None:  # noqa: ARG002
            seen.append(text)

    net.mesh.console.sink = Recorder()  # type: ignore[attr-defined]
    net.mesh.sink = lambda shown: seen.append(f"display {shown.data['text/plain']}\n")  # type: ignore[attr-defined]
    source = "for i in range(500):\n    print(i)\n    display(i)\n    time.sleep(0.001)"  # in pieces
    reval(f"import time\n{source}", net).result(LIMIT)
    lines = "".join(seen).splitlines()
    for number in range(500):
        assert lines.index(str(number)) < lines.index(f"display {number}")
