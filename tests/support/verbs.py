"""Each way for a client to give work to engines and workers, as a call that checks the result."""

from collections.abc import Callable, Mapping
from pathlib import Path

import joblib
import numpy as np
from joblib import Parallel, delayed

from pconnect import bcast, precv, psend, reval, rfeval
from pconnect.files.code_sync import sync_code
from pconnect.messaging.send_receive import select_sockets
from pconnect.notebook.completion import remote_names
from pconnect.session.remote_calls import run
from pconnect.session.versions import versions
from pconnect.views.network_views import ClientNetwork
from tests.support.user_functions import locally
from tests.support.waiting import DEADLINE

ARRAY = np.zeros(2**18)  # large enough for joblib to share it

Verb = Callable[[ClientNetwork, Path], None]


def push_and_pull(net: ClientNetwork, _: Path) -> None:
    net.push(pushed=ARRAY, kind=complex, timeout=DEADLINE)  # a class is sent by pickle
    net["other"] = [1, 2]
    assert net.pull("other", timeout=DEADLINE) == [[1, 2]] * 2
    assert net[1].pull(["other", "pushed"], timeout=DEADLINE)[0] == [1, 2]


def scatter_and_gather(net: ClientNetwork, _: Path) -> None:
    net.scatter("part", np.arange(7), timeout=DEADLINE)
    assert net.gather("part", timeout=DEADLINE).tolist() == list(range(7))
    net.scatter("words", ["a", "b", "c"], timeout=DEADLINE)
    assert net.gather("words", timeout=DEADLINE) == ["a", "b", "c"]


def who(net: ClientNetwork, _: Path) -> None:
    net.push(seen=1, timeout=DEADLINE)
    assert "seen" in str(net.who(timeout=DEADLINE))


def completion(net: ClientNetwork, _: Path) -> None:
    net.push(array_of_numbers=ARRAY, timeout=DEADLINE)
    assert remote_names(net[1], "array_of_n") == ["array_of_numbers"]
    assert "array_of_numbers.shape" in remote_names(net[1], "array_of_numbers.sh")


def put_and_get(net: ClientNetwork, folder: Path) -> None:
    (folder / "sent.txt").write_text("contents")
    net.put(folder / "sent.txt", "sent.txt", timeout=DEADLINE)
    net.get("sent.txt", folder / "got", timeout=DEADLINE)
    net[1].get("sent.txt", folder / "one.txt", timeout=DEADLINE)
    assert (folder / "one.txt").read_text() == "contents"


def synced_code(net: ClientNetwork, folder: Path) -> None:
    path = folder / "waves_of_verbs.py"
    for height in (1, 2):
        path.write_text(f"height = {height}")
        assert sync_code(path, net, timeout=DEADLINE) == [path.name]
    assert sync_code(path, net, timeout=DEADLINE) == []


def installed_versions(net: ClientNetwork, _: Path) -> None:
    assert versions(net, ["numpy"], timeout=DEADLINE).differing == []
    assert "numpy" in str(versions(net, timeout=DEADLINE))


def commands(net: ClientNetwork, _: Path) -> None:
    reval("x = 6 * 7", net).result(DEADLINE)
    assert net.eval("x").result(DEADLINE) == [42, 42]
    assert run("x", net[1], wants_value=True, as_display=True).result(DEADLINE) is not None
    assert net.apply(locally("add"), 1, b=2).result(DEADLINE) == [3, 3]
    assert rfeval(locally("shape"), ARRAY, connection=net[1], timeout=DEADLINE) == ARRAY.shape


def messages(net: ClientNetwork, _: Path) -> None:
    # The workspace keeps its network under another name, even if `sockets` is changed.
    source = """
        def answer(sockets):
            from pconnect import bcast, precv, psend
            psend(bcast(None, sockets) + precv(sockets[0]).sum(), sockets[0])
    """
    reval(source, net).result(DEADLINE)
    commands = net.apply("lambda: answer(network_of_verbs)")
    bcast(1.0, net)
    psend(ARRAY, net)
    assert select_sockets(net, DEADLINE)
    assert [precv(node, timeout=DEADLINE) for node in net[1:]] == [1.0, 1.0]
    commands.result(DEADLINE)


def broadcast(net: ClientNetwork, _: Path) -> None:
    with net.broadcast({"a": 3}, timeout=DEADLINE) as table:
        assert net.submit(locally("item"), table, "a").result(DEADLINE) == 3
        assert net.submit(locally("call"), locally("negative"), table, "a").result(DEADLINE) == -3


def jobs(net: ClientNetwork, _: Path) -> None:
    assert net.submit("max", 2, 3).result(DEADLINE) == 3
    assert list(net.map(locally("after"), range(5))) == [1, 2, 3, 4, 5]
    assert list(net.map(locally("after"), range(5), chunksize=2)) == [1, 2, 3, 4, 5]
    job = net.submit(locally("reports"), 5)
    assert (job.result(DEADLINE), job.progress) == ("UnsupportedValueError", 5)
    with net.executor() as executor:
        assert list(executor.map(locally("negative"), range(4), chunksize=2)) == [0, -1, -2, -3]


def pool(net: ClientNetwork, _: Path) -> None:
    with net.pool() as workers:
        assert workers.map(locally("negative"), range(4)) == [0, -1, -2, -3]
        assert workers.apply(locally("after"), (5,)) == 6


def shared_arrays(net: ClientNetwork, _: Path) -> None:
    with joblib.parallel_config("pserver", network=net):
        assert Parallel()(delayed(locally("item"))(ARRAY, n) for n in range(4)) == [0.0] * 4


VERBS: Mapping[str, Verb] = {
    each.__name__: each
    for each in (
        *(push_and_pull, scatter_and_gather, who, completion, put_and_get, synced_code, installed_versions),
        *(commands, messages, broadcast, jobs, pool, shared_arrays),
    )
}
