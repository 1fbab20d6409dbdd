"""Commands and the reports of their ends share the data connection with values; printed output does not."""

import time

import numpy as np

from pconnect import EngineDiedError, local_network, precv, psend, restart, reval
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


def test_a_command_comes_behind_values_that_fill_the_inbox() -> None:
    with local_network(1, slots=0, max_inbox_bytes=2**16) as net:
        for _ in range(20):
            psend(np.zeros(2**15), net[1], timeout=DEADLINE)
        reval("psend(sum(len(precv(sockets[0])) for _ in range(20)), sockets[0])", net[1])
        assert precv(net[1], timeout=DEADLINE) == 20 * 2**15


def test_what_has_ended_before_the_engine_dies_has_ended(server: Server) -> None:
    with server.connect(1) as network:
        for _ in range(5):
            ended = reval("print('a' * 1000)", network[1])
            dying = reval("import os; os._exit(3)", network[1])
            error = dying.exception(DEADLINE)
            assert isinstance(error, EngineDiedError)
            assert "exit status 3 in command 'import os; os._exit(3)'" in str(error)
            assert ended.exception(DEADLINE) is None
            assert ended.stdout == "a" * 1000 + "\n"
            restart(network[1], timeout=DEADLINE)


def test_a_process_that_a_command_has_forked_ends_with_it(server: Server) -> None:
    source = """
import os
if child := os.fork():
    os.waitpid(child, 0)
print("end")
"""
    with server.connect(1) as network:
        for _ in range(2):
            command = reval(source, network[1])
            command.result(DEADLINE)
            assert command.stdout == "end\nend\n"
        reval("if os.fork() == 0: raise SystemExit", network[1]).result(DEADLINE)
        assert network[1].eval("6 * 7").result(DEADLINE) == 42


def test_what_a_command_printed_is_there_at_its_end_and_is_its_own(server: Server) -> None:
    with server.connect(1) as network:
        commands = [
            reval(f"import sys; print({n}); sys.stderr.write('e' * {n}); sys.stderr.flush()", network[1])
            for n in range(200)
        ]
        commands[-1].result(DEADLINE)
        assert [command.stdout for command in commands] == [f"{n}\n" for n in range(200)]
        assert [command.stderr for command in commands] == ["e" * n for n in range(200)]


def test_a_child_that_prints_on_holds_up_no_end(server: Server) -> None:
    with server.connect(1) as network:
        begin = time.monotonic()
        source = (
            "import subprocess; child = subprocess.Popen('sleep 5; echo late', shell=True); print('soon')"
        )
        command = reval(source, network[1])
        command.result(DEADLINE)
        assert command.stdout == "soon\n"
        assert time.monotonic() - begin < 5.0
        reval("child.kill()", network[1]).result(DEADLINE)
