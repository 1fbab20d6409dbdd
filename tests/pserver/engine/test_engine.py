"""The environment that a command finds in an engine, and the engine's state after a command."""

from collections.abc import Iterator

import pytest

from pconnect import Network, RemoteError, precv, psend, reval, rfeval
from pconnect.messaging import collectives
from tests.support.servers import Server

LIMIT = 20.0


@pytest.fixture(scope="module")
def net(server: Server) -> Iterator[Network]:
    with server.connect() as network:
        yield network


def evaluate(net: Network, expression: str) -> object:
    reval(f"psend({expression}, sockets[0])", net)
    return precv(net[1], timeout=LIMIT)


def test_the_workspace_at_the_beginning(server: Server) -> None:
    with server.connect() as fresh:
        names = evaluate(fresh, "[name for name in dir() if not name.startswith('_')]")
    assert names == sorted(
        [
            "display",
            "job_folder",
            "np",
            "precv",
            "progress",
            "psend",
            "select_sockets",
            "session_files",
            "sockets",
            *collectives.__all__,
        ]
    )


def test_the_workspace_is_the_main_module(net: Network) -> None:
    reval("def double(x): return 2 * x", net).result(LIMIT)
    assert evaluate(net, "(double.__module__, __import__('__main__').double(4))") == ("__main__", 8)


def test_a_traceback_shows_the_lines_of_commands(net: Network) -> None:
    reval("def broken(x):\n    return x / 0", net).result(LIMIT)
    with pytest.raises(RemoteError) as error:
        reval("y = 1\nbroken(y)", net).result(LIMIT)
    text = error.value.remote_traceback
    assert "return x / 0" in text
    assert "broken(y)" in text
    assert "engine.py" not in text
    assert "command_runner.py" not in text


def test_a_command_that_is_sent_again_runs_again(net: Network) -> None:
    reval("times = 0", net)
    for _ in range(3):
        reval("times += 1\nif times == 3: raise ValueError(times)", net)
    with pytest.raises(RemoteError, match=r"if times == 3: raise ValueError\(times\)"):
        precv(net[1], timeout=LIMIT)
    assert evaluate(net, "times") == 3


def test_the_oldest_of_many_commands_is_forgotten_and_can_be_sent_again(net: Network) -> None:
    many = [f"number = {number}" for number in range(1100)]
    for source in [*many, many[0]]:
        reval(source, net)
    assert evaluate(net, "number") == 0
    names = "sorted(name for name in __import__('linecache').cache if name.startswith('<command'))"
    assert evaluate(net, f"len({names})") == 1000


def test_a_long_traceback_is_cut_in_the_middle(net: Network) -> None:
    with pytest.raises(RemoteError, match="characters left out") as error:
        reval("raise ValueError('begin' + 10**6 * 'x' + 'end')", net).result(LIMIT)
    text = error.value.remote_traceback
    assert len(text) < 2**17
    assert text.rstrip().endswith("xend")


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("if", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class Own(BaseException): pass\nraise Own", "Own"),
    ],
)
def test_no_error_of_a_command_ends_the_engine(net: Network, source: str, kind: str) -> None:
    with pytest.raises(RemoteError) as error:
        reval(source, net).result(LIMIT)
    assert error.value.type_name == kind
    assert evaluate(net, "1") == 1


def test_an_interrupt_that_comes_before_the_command_has_begun_is_for_that_one_alone(net: Network) -> None:
    server = net.mesh.servers[1]  # type: ignore[attr-defined]
    reval("", net).result(LIMIT)  # wait for commands of earlier tests, which would also be interrupted
    for _ in range(50):
        command = reval("while True: pass", net)
        server.interrupt(command.number)
        after = reval("psend('goes on', sockets[0])", net)
        with pytest.raises(RemoteError) as error:
            command.result(LIMIT)
        assert error.value.type_name == "KeyboardInterrupt"
        after.result(LIMIT)
        assert precv(net[1], timeout=LIMIT) == "goes on"


def test_closed_streams_harm_only_the_command(net: Network) -> None:
    reval("import sys; before = sys.stdout; sys.stdout = None", net).result(LIMIT)
    reval("sys.stdout = before", net).result(LIMIT)
    assert evaluate(net, "1") == 1


def test_values_go_out_between_commands(net: Network) -> None:
    source = "try:\n    psend(np.ones(2**22), sockets[0], timeout=0.05)\nexcept TimeoutError:\n    pass"
    reval(source, net)
    assert precv(net[1], timeout=LIMIT).sum() == 2**22


def test_an_engine_is_no_client(net: Network) -> None:
    with pytest.raises(RemoteError, match="an engine cannot send commands"):
        reval("from pconnect import reval; reval('x', sockets[0])", net).result(LIMIT)
    with pytest.raises(RemoteError, match="only the client closes a network"):
        reval("sockets.close()", net).result(LIMIT)
    assert evaluate(net, "len(__import__('pconnect').network_get_info(sockets))") == 2


def test_functions_by_name_and_by_source(net: Network) -> None:
    def scale(x: float, by: float) -> float:
        return x * by

    assert rfeval(scale, 3, 4, connection=net[1], timeout=LIMIT) == 12
    assert rfeval("divmod", 17, 5, connection=net[1], timeout=LIMIT) == (3, 2)
    with pytest.raises(RemoteError, match="TypeError"):
        rfeval("divmod", 1, connection=net[1], timeout=LIMIT)
    psend(1, net)
    reval("precv(sockets[0])", net).result(LIMIT)
