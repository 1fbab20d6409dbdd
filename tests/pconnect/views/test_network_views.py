"""The methods of a network, on real engines."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pconnect import ConfigurationError, Connection, RemoteError
from pconnect.views.network_views import ClientNetwork, cut_evenly
from tests.support.servers import Server

LIMIT = 20.0


def test_a_network_answers_with_a_list_and_a_node_with_a_value(network: ClientNetwork) -> None:
    assert network.eval("sockets.node").result(LIMIT) == [1, 2]
    assert network[1:2].eval("sockets.node").result(LIMIT) == [1]
    assert network[2].eval("sockets.node").result(LIMIT) == 2


def test_values_are_pushed_and_pulled(network: ClientNetwork) -> None:
    array = np.arange(12.0).reshape(3, 4)
    network.push({"a": array}, b="text", timeout=LIMIT)
    network[1]["c"] = [1, 2]
    np.testing.assert_array_equal(network[2].pull("a", timeout=LIMIT), array)
    assert network.pull(["b"], timeout=LIMIT) == [["text"], ["text"]]
    with pytest.raises(NameError, match="node 2"):
        network.pull("c", timeout=LIMIT)
    wrong: tuple[Any, ...] = ("a b", "", "a.b", [3])
    for name in wrong:
        with pytest.raises(ConfigurationError, match="not a valid name"):
            network.pull(name)
    with pytest.raises(ConfigurationError, match="not a valid name"):
        network.push({"a-b": 1})


def test_functions_are_applied(network: ClientNetwork) -> None:
    network.push(shift=100)

    def shifted(x: int, times: int = 1) -> int:
        return x * times + shift  # type: ignore[name-defined,no-any-return] # noqa: F821 - of the workspace

    assert network.apply(shifted, 2, times=3).result(LIMIT) == [106, 106]
    assert network[1].apply("divmod", 7, 2).result(LIMIT) == (3, 1)
    assert network[1].call("list", [{3}]).result(LIMIT) == [3]
    with pytest.raises(TypeError):
        network[1].apply(shifted, no_such=1).result(LIMIT)


def test_arrays_are_scattered_as_numpy_splits_them(network: ClientNetwork) -> None:
    array = np.arange(20).reshape(4, 5)
    for axis in (0, 1):
        network.scatter("part", array, axis=axis, timeout=LIMIT)
        shapes = [part.shape for part in np.array_split(array, 2, axis)]
        assert network.eval("part.shape").result(LIMIT) == shapes
        np.testing.assert_array_equal(network.gather("part", axis=axis, timeout=LIMIT), array)
    network.scatter("part", "abc", timeout=LIMIT)
    assert network.pull("part", timeout=LIMIT) == ["ab", "c"]
    assert network.gather("part", timeout=LIMIT) == ["a", "b", "c"]
    with pytest.raises(ConfigurationError, match="this node itself"):
        network[0:1].scatter("part", [1])


def test_a_file_runs_with_its_text_in_the_traceback(network: ClientNetwork, tmp_path: Path) -> None:
    file = tmp_path / "job.py"
    file.write_bytes(b"# coding: latin-1\ntext = '\xe9'\n1 / 0  # here\n")
    with pytest.raises(ZeroDivisionError, match="# here"):
        network[1].run(file).result(LIMIT)
    assert network[1].pull("text", timeout=LIMIT) == "é"
    file.write_text("if")
    with pytest.raises(SyntaxError):
        network.run(file)
    with pytest.raises(FileNotFoundError):
        network.run(tmp_path / "none.py")


def test_who_lists_the_names_of_the_user(server: Server) -> None:
    with server.connect(2) as net:
        net[2].push(a=np.zeros((2, 3)), n=[1, 2])
        rows = [[row[0], *row[2:5]] for row in net.who(timeout=LIMIT)]
        assert rows == [[2, "a", "ndarray", "(2, 3)"], [2, "n", "list", "2"]]
        assert next(iter(net.who()))[5] == 48


def test_interrupt_and_kill_are_for_the_chosen_nodes(server: Server) -> None:
    with server.connect(2) as net:
        commands = net.eval("while True: pass")
        net[1].interrupt()
        with pytest.raises(RemoteError, match="KeyboardInterrupt"):
            commands[0].result(LIMIT)
        assert not commands[1].done()
        assert net[1].eval("1").result(LIMIT) == 1
        net[2].kill()
        with pytest.raises(ConnectionError, match="SIGKILL"):
            commands[1].result(LIMIT)
        net[2].kill()  # it is already dead
        net.interrupt()  # no command is running
        assert net[1].eval("2").result(LIMIT) == 2


def test_nodes_by_the_name_of_their_host(server: Server) -> None:
    with server.connect(1) as net:
        node = net["127.0.0.1"]
        assert isinstance(node, Connection)
        assert net[node.host] is node
    with server.connect(2) as net:
        part = net["127.0.0.1"]
        assert isinstance(part, ClientNetwork)
        assert part.nodes == [1, 2]
        with pytest.raises(KeyError, match="no node is on host 'beta'"):
            net["beta"]


def test_a_node_is_restarted_and_the_others_are_not(server: Server) -> None:
    with server.connect(2) as net:
        net["kept"] = 1
        net[2].restart(timeout=LIMIT)
        assert net[1].pull("kept", timeout=LIMIT) == 1
        with pytest.raises(NameError):
            net[2].pull("kept", timeout=LIMIT)
        assert net.eval("allreduce(sockets.node, sockets[1:])").result(LIMIT) == [3, 3]


def test_code_and_versions_are_those_of_the_chosen_nodes(server: Server, tmp_path: Path) -> None:
    module = tmp_path / "tests_of_views.py"
    module.write_text("answer = 41")
    with server.connect(2) as net:
        assert net[2].sync_code(module, timeout=LIMIT) == ["tests_of_views.py"]
        assert net[2].eval("import tests_of_views as t; t.answer").result(LIMIT) == 41
        with pytest.raises(ImportError):
            net[1].eval("import tests_of_views").result(LIMIT)
        module.write_text("answer = 42")
        net.sync_code(module, timeout=LIMIT)
        assert net.eval("import tests_of_views as t; t.answer").result(LIMIT) == [42, 42]
        assert "numpy" in str(net.versions(["numpy"], timeout=LIMIT))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 12])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_items_are_cut_as_numpy_does(size: int, count: int) -> None:
    items = list(range(size))
    assert cut_evenly(items, count) == [part.tolist() for part in np.array_split(items, count)]
