"""Completion offers the names that users need, and no others."""

from collections.abc import Iterator

import pytest

from pconnect.errors import ConfigurationError
from pconnect.public_names import PublicNames
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server

LIMIT = 20.0


def offered(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("__")}


class Verbs:
    def verb(self) -> None:
        pass

    def _hidden(self) -> None:
        pass


class Plain(PublicNames):
    _for_users = ("known",)
    known = 1
    unknown = 2


class Extended(Verbs, Plain):
    pass


def test_networks_nodes_commands_and_jobs_stay_in_their_process(server: Server) -> None:
    with server.connect() as net:
        job, commands = net.submit(abs, -3), net.eval("1")
        for thing in (net, net[1:], net[1], job, commands, commands[0]):
            with pytest.raises(
                ConfigurationError, match="cannot leave the process that made it; send its data"
            ):
                net.submit(lambda thing=thing: thing).result(LIMIT)
            with pytest.raises(ConfigurationError, match=r"arguments cannot be sent: TypeError: a [CJ]"):
                net.apply(len, thing)
        assert job.result(LIMIT) == 3 and commands.result(LIMIT) == [1]


def test_a_list_describes_its_class_and_what_is_below() -> None:
    thing = Extended()
    thing.inner = 3  # type: ignore[attr-defined]
    assert offered(Plain()) == {"known"}
    assert offered(thing) == {"known", "verb"}
    assert {"__class__", "__init__", "__dir__"} <= set(dir(thing))


JOBS = {"broadcast", "executor", "map", "pmap", "pool", "seed", "statistics", "submit"}
VERBS = {
    "apply", "call", "eval", "gather", "get", "info", "interrupt", "kill", "popen", "pull", "push", "put", "restart",
    "run", "scatter", "sync_code", "versions", "which", "who",
}  # fmt: skip


@pytest.fixture(scope="module")
def net(server: Server) -> Iterator[ClientNetwork]:
    with server.connect(1) as network:
        yield network


def test_of_a_network(net: ClientNetwork) -> None:
    own = {
        "add",
        "close",
        "closed",
        "commands",
        "count",
        "dashboard",
        "dask",
        "detach",
        "index",
        "jobs",
        "members",
        "mesh",
        "missing",
        "network_id",
        "node",
        "nodes",
        "reconnect",
        "remove",
        "resumed",
        "values_lost",
    }
    for network in (net, net[1:]):
        assert offered(network) == JOBS | VERBS | own


def test_of_a_node(net: ClientNetwork) -> None:
    own = {"encrypted", "error", "host", "is_own", "node", "transport"}
    assert offered(net[1]) == JOBS | VERBS | own


def test_in_an_engine(net: ClientNetwork) -> None:
    names = net[1].eval("[name for name in dir(sockets[0]) if name[0] != '_']").result(LIMIT)
    assert set(names) == {"encrypted", "error", "host", "is_own", "node", "transport"}


def test_of_commands_and_jobs(net: ClientNetwork) -> None:
    command, job = net[1].eval("1"), net.submit(abs, -1)
    assert (command.result(LIMIT), job.result(LIMIT)) == (1, 1)
    own_commands = {
        "begun", "cancel_asked", "interrupt_asked", "is_quiet", "made", "origin", "printed", "source",
    }  # fmt: skip
    own_jobs = {"add_progress_callback", "losses", "name", "outputs", "progress", "running", "state", "why"}
    both = {
        "add_done_callback", "cancel", "cancelled", "done", "duration", "exception", "host", "node", "number", "result",
        "started", "stderr", "stdout",
    }  # fmt: skip
    assert offered(command) == both | own_commands | {"finished"}
    assert offered(job) == both | own_jobs


def test_all_that_is_offered_is_there(net: ClientNetwork) -> None:
    command, job = net[1].eval("1"), net.submit(abs, -1)
    assert (command.result(LIMIT), job.result(LIMIT)) == (1, 1)
    for thing in (net, net[1], command, job):
        assert [name for name in offered(thing) if not hasattr(thing, name)] == []
