"""The demonstration: run two real computations on three real servers of this machine, and check the results.

The demonstration has its own users, run-time files and ports, in a temporary folder. It removes all of them at the end,
also after an error or Ctrl-C. It does not touch other servers of this user.
"""

import argparse
import contextlib
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from pconnect import Network, network_get_info, pconnect, precv, psend, reval
from pconnect.commands.table import Table
from pserver.admin.control import start_server
from pserver.config.server_config import ServerConfig
from pserver.demo.picture import save_picture
from pserver.demo.work import (
    Floats,
    Grid,
    make_plate,
    send_program,
    serial_grid,
    serial_heat,
    slab_borders,
    spread_grid,
    spread_heat,
)
from pserver.system.pidfile import stop_server
from srp_tools.credentials import Credentials
from srp_tools.errors import ConfigurationError
from srp_tools.private_files import server_file
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile

_SERVERS = 3
_TIMEOUT = 60.0

_LINK_BYTES = 64 * 2**20
_LINK_REPEATS = 3

# Chosen for a total of about twenty seconds on two processors.
_WIDTHS = (8.0, 12.0, 18.0, 27.0, 40.0)
_PENALTIES = (0.001, 0.01, 0.1, 1.0)
_FOLDS = 3
_ROWS, _COLUMNS, _STEPS = 480, 720, 1500

# Three engines, each with one thread per processor, would only slow each other down.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

# Solutions of linear systems may differ from the client's in the last digits if the BLAS libraries differ.
_TOLERANCE = 1e-12

_ADVICE = """\
To do the same on your own machines
  1. On the client, once:      generate-srp-data
  2. For each HOST, once:      ssh HOST mkdir -p .config/pserver
                               scp -rp ~/.config/pserver/server HOST:.config/pserver/
  3. On each HOST:             pserver start
  4. In Python on the client:  import numpy as np
                               from pconnect import pconnect, precv, psend, reval
                               with pconnect(["HOST1", "HOST2"]) as net:
                                   command = reval("psend(precv(sockets[0]).sum(), sockets[0])", net)
                                   psend(np.arange(10), net)
                                   print([precv(server) for server in net[1:]])
                                   command.result()
The client must reach port 12502 of each server, and the client and all servers must reach port 12501 of each server."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration.

    `argv`: the arguments after ``pserver demo``; ``None`` means those of the process. Returns 0, or 1 if a result
    differs from that of serial numpy. Raises `ConfigurationError` if the picture's folder does not exist, or a server
    could not start. Raises `ParallelError` or `OSError` for other failures. No server is left running.
    """
    parser = argparse.ArgumentParser(
        prog="pserver demo", description="Compute something on three servers of this machine."
    )
    parser.add_argument("--output", type=Path, default=Path("heat.png"), metavar="FILE",
                        help="file for the picture (PNG) of the heat; default: %(default)s")  # fmt: skip
    output: Path = parser.parse_args(argv).output
    if not output.absolute().parent.is_dir():
        raise ConfigurationError(f"--output {output}: there is no folder {output.absolute().parent}")
    # The serial computations also get one thread, for a fair comparison.
    with threadpool_limits(1), _demo_network() as net:
        _show_nodes(net)
        _show_links(net)
        send_program(net)
        right = [_do_grid(net), _do_heat(net, output)]
    print(f"\n{_ADVICE}")
    return 0 if all(right) else 1


@contextlib.contextmanager
def _demo_network() -> Iterator[Network]:
    """Start the servers and connect to them; stop them at the end, whatever happens."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pserver-demo-")))
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        stack.enter_context(_environment({**_ONE_THREAD, "PSERVER_RUNTIME_DIR": str(runtime)}))
        stack.enter_context(_ending_in_order())
        credentials = Credentials("demo", secrets.token_urlsafe(24))
        VerifierFile(server_file(folder)).add(make_verifier(credentials))
        begin = time.perf_counter()
        hosts = []
        for number in range(1, _SERVERS + 1):
            name = f"demo-{number}"
            # Registered before the start, because an interrupt may arrive when the server is already running.
            stack.callback(stop_server, name)
            status = start_server(_config(name, folder))
            hosts.append(f"127.0.0.1:{status['cmd_port']}")
        print(f"Started {_SERVERS} servers in {time.perf_counter() - begin:.2f} s: {', '.join(hosts)}")
        begin = time.perf_counter()
        with pconnect(
            hosts,
            profile="",
            user=credentials.user,
            password=credentials.password,
            timeout=_TIMEOUT,
            local_links=False,  # encrypt, as between machines
        ) as net:
            seconds = time.perf_counter() - begin
            print(
                f"Logged in with TLS-SRP and connected all nodes to each other with TLS 1.3 in {seconds:.2f} s."
            )
            yield net
    print("\nStopped the servers and removed their files.")


def _config(name: str, folder: Path) -> ServerConfig:
    return ServerConfig(
        name=name,
        cmd_port=0,
        data_port=0,
        bind="127.0.0.1",
        auth_file=server_file(folder),
        # The servers listen on loopback only, know one random password, and run for a few seconds.
        allow_root=os.geteuid() == 0,
    )


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Set environment variables for this process and the servers that it starts."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the process like an exception, so that no server is left behind."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_nodes(net: Network) -> None:
    rows: list[list[object]] = []
    for facts in network_get_info(net):
        if facts["local"]:
            facts |= {"numpy": np.__version__}
        trip = facts["round_trip"]
        rows.append([facts[key] for key in ("node", "host", "pid", "cores", "python", "numpy", "version")])
        rows[-1].append("this node" if trip is None else f"{trip * 1e3:.2f} ms")
    headings = ["NODE", "HOST", "PID", "CORES", "PYTHON", "NUMPY", "PSERVER", "ROUND TRIP"]
    print(f"\n{Table(headings, rows)}")


def _show_links(net: Network) -> None:
    """Measure the speed of array transfers; a transfer ends when the receiver has the whole array."""
    array = np.random.default_rng(1).random(_LINK_BYTES // 8)

    def to_server() -> float:
        command = reval("_array = precv(sockets[0])", net[1])
        psend(array, net[1])
        command.result(_TIMEOUT)
        return 0.0

    def to_client() -> float:
        reval("psend(_array, sockets[0])", net[1])
        precv(net[1], timeout=_TIMEOUT)
        return 0.0

    links: dict[str, Callable[[], object]] = {
        "client -> server": to_server,
        "server -> client": to_client,
        "server -> server": lambda: _between_servers(net),
    }
    print(f"\nLinks, encrypted, {_LINK_BYTES // 2**20} MiB of float64, median of {_LINK_REPEATS}:")
    for name, transfer in links.items():
        seconds = median(_timed(transfer)[1] for _ in range(_LINK_REPEATS))
        print(f"  {name}  {_LINK_BYTES / seconds / 1e6:6.0f} MB/s")
    reval("del _array", net[1:3]).result(_TIMEOUT)


def _between_servers(net: Network) -> None:
    reval("psend(_array, sockets[2])", net[1])
    reval("_array = precv(sockets[1])", net[2]).result(_TIMEOUT)


def _timed(function: Callable[..., Any], *arguments: object) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - begin


def _do_grid(net: Network) -> bool:
    images, labels = load_digits(return_X_y=True)
    grid = Grid(images, labels, _WIDTHS, _PENALTIES, _FOLDS)
    print(
        f"\nCross-validation: {len(labels)} handwritten digits, a kernel ridge classifier, "
        f"{len(grid.settings())} settings, {_FOLDS} folds"
    )
    (scores, shares), parallel_time = _timed(spread_grid, grid, net)
    expected, serial_time = _timed(serial_grid, grid)
    _show_scores(grid, scores)
    print(f"  settings computed by each server: {', '.join(map(str, shares))}")
    _show_times(serial_time, parallel_time)
    difference = float(abs(scores - expected).max())
    return _report(difference <= _TOLERANCE, difference)


def _show_scores(grid: Grid, scores: Floats) -> None:
    shares = scores[:, :, 0].mean(axis=1).reshape(len(grid.widths), len(grid.penalties))
    print("  recognised, by width and penalty:")
    rows = [
        ["", f"{width:g}", *(f"{share:.2%}" for share in row)]
        for width, row in zip(grid.widths, shares, strict=True)
    ]
    print(Table(["", "width", *(f"{penalty:g}" for penalty in grid.penalties)], rows))
    best = int(scores[:, :, 0].mean(axis=1).argmax())
    width, penalty = grid.settings()[best]
    print(f"  best: width {width:g}, penalty {penalty:g}")


def _do_heat(net: Network, output: Path) -> bool:
    print(
        f"\nHeat in a plate: {_ROWS} x {_COLUMNS} points, {_STEPS} steps, one slab on each server, "
        "halo rows from server to server"
    )
    plate = make_plate(_ROWS, _COLUMNS)
    field, parallel_time = _timed(spread_heat, plate, _STEPS, net)
    expected, serial_time = _timed(serial_heat, plate, _STEPS)
    _show_times(serial_time, parallel_time)
    borders = slab_borders(_ROWS, len(net) - 1)
    title = f"Heat in a plate after {_STEPS} steps, computed by {_SERVERS} servers"
    save_picture(field, borders, title, output)
    print(f"  picture: {output}")
    return _report(np.array_equal(field, expected), float(abs(field - expected).max()))


def _show_times(serial: float, parallel: float) -> None:
    cores = len(os.sched_getaffinity(0))
    print(
        f"  serial {serial:.2f} s, {_SERVERS} servers {parallel:.2f} s: "
        f"{serial / parallel:.2f} times as fast on {cores} processors"
    )


def _report(right: bool, difference: float) -> bool:
    if not right:
        print(f"  WRONG: differs from serial numpy by up to {difference:.3g}")
    elif difference == 0:
        print("  right: identical to serial numpy, to the last bit")
    else:
        print(f"  right: equal to serial numpy within {difference:.1g}")
    return right


if __name__ == "__main__":
    sys.exit(main())
