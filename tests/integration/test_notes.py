"""Displays, warnings, log records and questions of real engines."""

import io
import logging
import os
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from pconnect import Connection, Network, RemoteError, precv, reval
from pconnect.commands.front_end_messages import Display
from pconnect.session.client_mesh import ClientMesh
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until

# A hundred thousand records take a few seconds, or a minute on a busy machine.
FLOOD_DEADLINE = 120.0

MakeNetwork = Callable[..., Network]


class Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.args[2] for record in self.records if isinstance(record.args, tuple)]  # type: ignore[misc]


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """Keep the records of the logger ``sim``."""
    made, logger = Keeper(), logging.getLogger("sim")
    logger.addHandler(made)
    logger.propagate = False  # pytest would format each of them
    yield made
    logger.propagate = True
    logger.removeHandler(made)
    logger.setLevel(logging.NOTSET)


def keep_displays(net: Network) -> list[Display]:
    kept: list[Display] = []
    assert isinstance(net.mesh, ClientMesh)
    net.mesh.sink = kept.append
    return kept


def run(source: str, net: Network | Connection) -> None:
    reval(source, net).result(DEADLINE)


def test_an_object_is_displayed_in_its_forms(
    network: MakeNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    net = network(2)
    source = """
        class Bold:
            def __repr__(self):
                return f"bold {sockets.node}"
            def _repr_html_(self):
                return f"<b>{sockets.node}</b>"
        print("before")
        display(Bold())
        """
    run(source, net[1])
    host = net[1].host
    assert capsys.readouterr().out == f"[1 {host}] before\n[1 {host}] bold 1\n"
    kept = keep_displays(net)
    command = reval(source, net)
    command.result(DEADLINE)
    assert sorted(kept) == [
        Display(k, net[k].host, command.number, {"text/plain": f"bold {k}", "text/html": f"<b>{k}</b>"}, {})
        for k in (1, 2)
    ]


def test_an_object_that_cannot_be_shown_harms_nothing(
    network: MakeNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    net = network()
    kept = keep_displays(net)
    run(
        "class Bad:\n    def _repr_html_(self): raise ValueError('bad')\ndisplay(Bad()); display('next')", net
    )
    assert [set(shown.data) for shown in kept] == [{"text/plain"}, {"text/plain"}]
    assert "ValueError: bad" in capsys.readouterr().err


def test_figures_arrive_as_pictures(network: MakeNetwork) -> None:
    net = network()
    kept = keep_displays(net)
    run(
        """
        import matplotlib.pyplot as plt
        for _ in range(2):
            plt.figure(figsize=(4, 2), dpi=100)
            plt.plot([1, 3, 2])
        plt.show()
        """,
        net,
    )
    assert len(kept) == 2
    for shown in kept:
        png = shown.data["image/png"]
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        columns, rows = struct.unpack("!II", png[16:24])
        picture = matplotlib.image.imread(io.BytesIO(png))
        assert picture.shape[:2] == (rows, columns)
        assert 0 < picture.mean() < 1
    run("plt.plot([1]); x = 1", net)  # the figure is shown at the end
    assert len(kept) == 3
    run("display(plt.get_fignums())", net)
    assert kept[3].data["text/plain"] == "[]"
    with pytest.raises(RemoteError, match="ZeroDivisionError"):
        run("plt.plot([1]); 1 / 0", net)
    assert "image/png" in kept[4].data


def test_matplotlib_is_left_alone_unless_it_is_used(network: MakeNetwork) -> None:
    net = network()
    reval(
        "import sys; psend([name for name in sys.modules if name.startswith('matplotlib')], sockets[0])", net
    )
    assert precv(net[1], timeout=DEADLINE) == []


def test_warnings_arrive_once_and_as_their_category(
    network: MakeNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    net = network(2)
    source = "import warnings\nfor _ in range(3): warnings.warn('careful', FutureWarning)"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        run(source, net)
        run("np.log(np.zeros(1))", net[1])
    shown = sorted((str(w.message), w.category, w.filename.split()[0], w.lineno) for w in caught)
    assert shown == [
        ("careful", FutureWarning, "[1", 2),
        ("careful", FutureWarning, "[2", 2),
        ("divide by zero encountered in log", RuntimeWarning, "[1", 1),
    ]
    assert capsys.readouterr().err == ""


def test_a_filter_of_the_client_makes_a_warning_the_failure_of_its_command(network: MakeNetwork) -> None:
    net = network()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="divide by zero") as caught:
            run("psend(float(np.float64(1) / 0), sockets[0])", net)
        assert isinstance(caught.value, RemoteError)
        assert precv(net[1], timeout=DEADLINE) == float("inf")
        run("x = 1", net)


def test_log_records_arrive_with_their_node(network: MakeNetwork, keeper: Keeper) -> None:
    net = network(2)
    run(
        """
        import logging
        def step():
            logging.getLogger("sim").warning("at %d%%", sockets.node)
            logging.getLogger("sim").info("below the level of both")
        step()
        """,
        net,
    )
    seen = sorted((r.node, r.host, r.getMessage(), r.funcName, r.levelno) for r in keeper.records)  # type: ignore[attr-defined]
    assert seen == [(k, net[k].host, f"[{k} {net[k].host}] at {k}%", "step", logging.WARNING) for k in (1, 2)]
    run("logging.getLogger('sim').setLevel(logging.INFO); step()", net[1])
    assert len(keeper.records) == 3
    logging.getLogger("sim").setLevel(logging.INFO)
    run("step()", net[1])
    assert keeper.texts[3:] == ["at 1%", "below the level of both"]


def test_what_the_user_configures_in_an_engine_counts(
    network: MakeNetwork, keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    net = network()
    run(
        """
        import logging
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        logging.getLogger("sim").info("hello")
        """,
        net,
    )
    assert keeper.records == []
    assert capsys.readouterr().err == f"[1 {net[1].host}] sim: hello\n"
    run("logging.getLogger().addHandler(logging.lastResort); logging.getLogger('sim').warning('both')", net)
    assert keeper.texts == ["both"]
    assert capsys.readouterr().err == f"[1 {net[1].host}] sim: both\n"


def test_threads_may_log_while_the_engine_waits(network: MakeNetwork, keeper: Keeper) -> None:
    net = network()
    command = reval(
        """
        import logging, threading
        def work(k):
            for i in range(200):
                logging.getLogger("sim").warning("%d of thread %d", i, k)
        for k in range(4):
            threading.Thread(target=work, args=[k]).start()
        precv(sockets[0])
        """,
        net,
    )
    net.mesh.event_loop.run_until(
        lambda: len(keeper.records) == 800, 1e12, "records"
    )  # before the command ends
    assert not command.done()
    for k in range(4):
        mine = [text for text in keeper.texts if text.endswith(f"thread {k}")]
        assert mine == [f"{i} of thread {k}" for i in range(200)]
    command.cancel()
    with pytest.raises(RemoteError):
        command.result(DEADLINE)


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("input('name? ')", EOFError, "send it with psend or push"),
        ("import sys; sys.stdin.read()", EOFError, "send it with psend or push"),
        ("import getpass; getpass.getpass()", EOFError, "send it with psend or push"),
        ("breakpoint()", RuntimeError, "debuggers do not work here"),
        ("import pdb; pdb.set_trace()\nx = 1", RuntimeError, "debuggers do not work here"),
    ],
)
def test_questions_fail_at_once(network: MakeNetwork, source: str, kind: type[Exception], words: str) -> None:
    net = network()
    with pytest.raises(kind, match=words):
        run(source, net)
    run("x = 1", net)


def memory_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_flood_of_records_blocks_nobody_and_what_is_dropped_is_counted(
    server: Server, network: MakeNetwork, keeper: Keeper, tmp_path: Path
) -> None:
    net = network()
    total, ended = 40_000, tmp_path / "ended"
    run("import logging, os, pathlib; log = logging.getLogger('sim')", net)
    reval("psend(os.getpid(), sockets[0])", net)
    pids = [int(precv(net[1], timeout=DEADLINE)), *server.sessions(net)]
    before = [memory_bytes(pid) for pid in pids]
    command = reval(
        f"for i in range({total}): log.warning('record %d', i)\npathlib.Path({str(ended)!r}).touch()", net
    )
    wait_until(ended.exists, "the end of a command whose records the client does not receive", FLOOD_DEADLINE)
    grown = [memory_bytes(pid) - old for pid, old in zip(pids, before, strict=True)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        command.result(FLOOD_DEADLINE)
    dropped = [int(str(w.message).split()[0]) for w in caught if "were dropped" in str(w.message)]
    assert len(keeper.records) + sum(dropped) == total
    assert sum(dropped) > 0
    numbers = [int(text.split()[1]) for text in keeper.texts]
    assert numbers == sorted(set(numbers))
    assert max(grown) < 2**26, grown  # all the text would be more than 100 MB
    keeper.records.clear()
    run("log.warning('record of the next command')", net)
    assert keeper.texts == ["record of the next command"]


def test_large_displays_wait_for_each_other(network: MakeNetwork) -> None:
    net = network()
    kept = keep_displays(net)
    run(
        """
        class Large:
            def __init__(self, size): self.size = size
            def _repr_png_(self): return bytes(self.size)
            def __repr__(self): return str(self.size)
        """,
        net,
    )
    run("for _ in range(3): display(Large(10**7))", net)
    run("display(Large(2**24 + 1))", net)
    sizes = [len(shown.data.get("image/png", b"")) for shown in kept]
    assert sizes == [10**7, 10**7, 10**7, 0]
    assert "16777" in kept[-1].data["text/plain"]


def test_a_display_in_the_notebooks_of_a_small_network(network: MakeNetwork) -> None:
    net = network(max_message_bytes=2**18)
    kept = keep_displays(net)
    run("class Large:\n    def _repr_png_(self): return bytes(2**18)\ndisplay(Large()); display(1)", net)
    assert [set(shown.data) for shown in kept] == [{"text/plain"}, {"text/plain"}]


def test_a_handler_that_raises_harms_no_connection(
    network: MakeNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    class Bad(logging.Handler):
        def emit(self, record: logging.LogRecord) -> Any:
            raise SystemExit(f"bad handler for {record.name}")

    net, bad = network(), Bad()
    logging.getLogger("sim").addHandler(bad)
    try:
        run("import logging; logging.getLogger('sim').warning('x'); psend(1, sockets[0])", net)
    finally:
        logging.getLogger("sim").removeHandler(bad)
    assert precv(net[1], timeout=DEADLINE) == 1
    sys.stderr.flush()
    assert "SystemExit: bad handler for sim" in capsys.readouterr().err
