"""The cost of networks of up to a thousand nodes in messages and bytes, counted without sockets.

The calls run in `tests.support.memory_network`, which describes the assumptions of its clock. The cost of connecting is
the size of the client's messages to the servers.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pconnect import Network, allgather, allreduce, alltoall, barrier, bcast, gather, reduce, scatter
from pconnect.link.connection import Connection
from pconnect.link.local_link import LocalAddress
from pconnect.protocol.frames import DEFAULT_LIMITS
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import encode_message
from pconnect.routes.location import Location
from pconnect.session.mesh_setup import MeshSetup
from pconnect.session.server import Server
from srp_tools.certificates import NetworkAuthority, NodeKey
from tests.support.memory_network import MemoryNetwork

_NETWORK = bytes(16)
_SMALL, _LARGE = np.ones(1), np.ones(2**17)
_WIDTHS = (24, 6, 9, 9, 10, 11, 11, 8, 10)
_HEADS = ("call", "nodes", "client", "most", "all", "client", "most", "rounds", "clock")
_UNITS = ("", "", "messages", "messages", "messages", "bytes", "bytes", "", "ms")

Call = Callable[[Network], object]


def calls() -> dict[str, Call]:
    """Return the measured calls by name; no node keeps its results."""
    both: dict[str, Callable[[Network, Any], object]] = {
        "bcast": lambda net, value: bcast(value, net),
        "scatter": lambda net, value: scatter([value] * len(net) if net.node == 0 else None, net),
        "gather": lambda net, value: gather(value, net),
        "reduce": lambda net, value: reduce(value, net),
        "allreduce": lambda net, value: allreduce(value, net),
    }
    found: dict[str, Call] = {"barrier": barrier}
    for name, call in both.items():
        found[f"{name} of 8 bytes"] = lambda net, call=call: call(net, _SMALL) is None  # type: ignore[misc]
    found["allgather of 8 bytes"] = lambda net: allgather(_SMALL, net) is None
    found["alltoall of 8 bytes"] = lambda net: alltoall([_SMALL] * len(net), net) is None
    for name, call in both.items():
        found[f"{name} of 1 MiB"] = lambda net, call=call: call(net, _LARGE) is None  # type: ignore[misc]
    return found


def print_calls(sizes: Iterable[int]) -> None:
    """Print a line for each call and size: the traffic of the client and of the busiest node in both directions."""
    for line in (_HEADS, _UNITS):
        print(_line(*line))
    for name, call in calls().items():
        for size in sizes:
            costs = MemoryNetwork(size).measure(call)
            most_messages, most_bytes = max(c.messages for c in costs), max(c.bytes for c in costs)
            rounds, seconds = max(c.rounds for c in costs), max(c.seconds for c in costs)
            client, sent = costs[0], sum(cost.sent for cost in costs)
            counts = (client.messages, most_messages, sent, client.bytes, most_bytes, rounds)
            print(_line(name, size, *counts, f"{seconds * 1e3:.2f}"), flush=True)
    print()


def print_connecting(sizes: Iterable[int]) -> None:
    """Print the bytes that the client sends to each server and to all, on separate machines and on one."""
    print(f"{'connecting':34} {'nodes':>6} {'bytes each':>11} {'bytes':>12} {'client, s':>10}")
    for size in sizes:
        for name, of_one_machine in (("SETUP", False), ("SETUP, all nodes on one machine", True)):
            begin = time.perf_counter()
            each = setup_bytes(size, of_one_machine=of_one_machine)
            seconds = time.perf_counter() - begin
            print(f"{name:34} {size:6} {max(each):11} {sum(each):12} {seconds:10.3f}", flush=True)
        begin = time.perf_counter()
        certificate = _certificate_bytes(size)
        seconds = time.perf_counter() - begin
        print(
            f"{'certificates':34} {size:6} {certificate:11} {certificate * size:12} {seconds:10.3f}",
            flush=True,
        )


def setup_bytes(size: int, *, of_one_machine: bool) -> list[int]:
    """Return the length of each node's SETUP in a network with a given number of servers."""
    servers = []
    for node in range(1, size + 1):
        low = f"{node >> 8}.{node & 255}"
        place = "here" if of_one_machine else low
        local = LocalAddress(place, f"/run/user/1000/pserver/default/{node}.socket")
        host = f"node{node:04}.example.org"
        location = Location(f"10.0.{low}", 12502, 12501, [f"10.0.{low}", f"fd00::{node:x}"], local)
        servers.append(Server(Connection(node, host, None, role=Role.CLIENT), location))
    setup = MeshSetup(_NETWORK, None, DEFAULT_LIMITS, 30.0, "/home/user/work", link_key=bytes(32))
    same = setup.setup(servers, math.inf)
    found = []
    for server in servers:
        buffers = encode_message(
            Kind.SETUP,
            server.node,
            same | setup.local_links(server, servers),
            DEFAULT_LIMITS.max_message_bytes,
        )
        found.append(sum(memoryview(buffer).nbytes for buffer in buffers))
    return found


def _certificate_bytes(size: int) -> int:
    authority, key = NetworkAuthority(_NETWORK), NodeKey().public_bytes()
    return max(len(authority.sign(key, node)) for node in range(1, size + 1)) + len(authority.certificate)


def _line(*cells: object) -> str:
    first, *others = (str(cell).rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return first.strip().ljust(_WIDTHS[0]) + "".join(others)
