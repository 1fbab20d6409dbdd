"""Print the cost of other routes between two engines, compared with their usual connection: one port, and relays.

The machines are network namespaces of this one, joined by cables without delay. So the figures show the work of the
processors: the two engines encrypt and decrypt, and a relay moves every byte once more. All networks exist at the same
time on the same servers, and are measured in turn.
"""

import argparse
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pconnect import network_get_info, pconnect
from pconnect.views.network_views import ClientNetwork
from tests.benchmarks.timing import TRANSFER_BYTES, alternate, ratio
from tests.support.lans import Lans
from tests.support.servers import make_users

_ADDRESSES = {"c": "203.0.113.3", "d": "203.0.113.4", "e": "203.0.113.5"}
_FILTER = "table ip filter {{\nchain in {{\ntype filter hook input priority filter\n{} reject with tcp reset\n}}\n}}"
_NO_DATA_PORT = _FILTER.format("tcp dport 12501 tcp flags & (syn | ack) == syn")
_COLUMNS = "{:40} {:>22} {:>22} {:>8}"
# Code of the engines: one sends, the other answers when it has received everything.
_SEND = "psend(data, sockets[2]); precv(sockets[2])"
_TAKE = "precv(sockets[1]); psend(0, sockets[1])"


def main() -> None:
    """Make the machines and their servers, and measure on the client's machine."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.routes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--at-client", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.at_client:
        _measure(json.loads(options.at_client), is_quick=options.quick)
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lans = Lans(stack, folder)
        lans.lan("out")
        lans.machine("far", out="203.0.113.9/24")
        credentials, auth_file = make_users(folder / "users")
        for name, address in _ADDRESSES.items():
            lans.machine(name, out=f"{address}/24")
            lans.serve(name, auth_file)
        given = {
            "user": credentials.user,
            "password": credentials.password,
            "machines": {name: lans.at(name) for name in _ADDRESSES},
        }
        lans.show(
            "far", "tests.benchmarks.routes", *["--quick"] * options.quick, "--at-client", json.dumps(given)
        )


def _measure(given: Mapping[str, Any], *, is_quick: bool) -> None:
    rounds = 5 if is_quick else 15
    apart = {
        name: _FILTER.format(f"ip saddr {other} tcp flags & (syn | ack) == syn")
        for name, other in (("c", _ADDRESSES["d"]), ("d", _ADDRESSES["c"]))
    }
    kinds: dict[str, tuple[Mapping[str, str], str]] = {
        "direct": ({}, "cd"),
        "through the command ports": (dict.fromkeys("cd", _NO_DATA_PORT), "cd"),
        "relayed by a server": (apart, "cde"),
        "relayed by the client": (apart, "cd"),
    }
    nets: dict[str, ClientNetwork] = {}
    for kind, (rules, names) in kinds.items():
        for name, enter in given["machines"].items():
            text = f"flush ruleset\n{rules.get(name, '')}"
            subprocess.run([*enter, "nft", "-f", "-"], input=text, text=True, check=True)
        begin = time.perf_counter()
        net = pconnect(
            [_ADDRESSES[name] for name in names],
            user=given["user"], password=given["password"], local_links=False,
        )  # fmt: skip
        assert isinstance(net, ClientNetwork)
        nets[kind] = net
        routes = [facts["routes"] for facts in network_get_info(net[1:3])]
        print(f"{kind}: connected in {time.perf_counter() - begin:.2f} s, routes {routes}", flush=True)
        net[1].eval(f"import numpy as np; data = np.zeros({TRANSFER_BYTES // 8}); none = 0").result()
    print()
    print(_COLUMNS.format("", "direct", "this way", "rate"))
    for kind in list(nets)[1:]:
        usual, other = (_sender(nets[name], _SEND) for name in ("direct", kind))
        a, b = alternate(rounds, usual, other)
        line = [sample.text("MB/s") for sample in (a, b)]
        print(_COLUMNS.format(f"64 MiB, {kind}", *line, f"{1 / ratio(a, b):.2f} x"), flush=True)
        usual, other = (_sender(nets[name], _SEND.replace("data", "none")) for name in ("direct", kind))
        a, b = alternate(2 * rounds, usual, other)
        print(
            _COLUMNS.format(f"a scalar and its answer, {kind}", a.text("ms"), b.text("ms"), f"{ratio(a, b):.2f} x"),
            flush=True,
        )  # fmt: skip
    for net in nets.values():
        net.close()


def _sender(net: ClientNetwork, source: str) -> Callable[[], None]:
    def send() -> None:
        taken = net[2].eval(_TAKE)
        net[1].eval(source).result()
        taken.result()

    return send


if __name__ == "__main__":
    main()
