"""Commands of a network in one process."""

import traceback
from pathlib import Path
from typing import Any

import pytest

from pconnect import serial


def names_of_frames(error: BaseException) -> list[str]:
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]


def test_each_node_has_a_workspace_of_its_own() -> None:
    with serial(2) as net:
        net[1]["a"] = 1
        net[2]["a"] = 2
        assert net.eval("a").result() == [1, 2]
        assert net.eval("np.arange(3).sum()").result() == [3, 3]
        net.restart()
        with pytest.raises(NameError):
            net.pull("a")
        assert net.eval("sockets.node").result() == [1, 2]


def test_names_of_workspaces() -> None:
    with serial(2) as net:
        net.push({"a": 1}, b=[2])
        assert net.pull(["a", "b", "len"]) == [[1, [2], len]] * 2
        net.scatter("part", range(5))
        assert [len(part) for part in net.pull("part")] == [3, 2]
        assert net.gather("part") == [0, 1, 2, 3, 4]
        assert net[1].pull("a") == 1
        assert str(net[1].who()).splitlines()[1].split() == ["1", "this", "process", "a", "int"]


def test_an_error_is_the_exception_itself() -> None:
    class OwnError(Exception):
        pass

    def deep(x: int) -> float:
        if x == 0:
            raise OwnError(x)
        return deep(x - 1)

    with serial() as net:
        command = net[1].apply(deep, 2)
        error = command.exception()
        assert type(error) is OwnError
        assert names_of_frames(error)[-3:] == ["deep"] * 3
        with pytest.raises(OwnError) as caught:
            command.result()
        assert caught.value is error


def test_a_command_at_several_nodes_raises_its_first_error() -> None:
    with serial(3) as net:
        command = net.eval("1 / (sockets.node - 2)")
        with pytest.raises(ZeroDivisionError):
            command.result()
        assert [each.known_error is None for each in command] == [True, False, True]
        command = net.eval("1 / 0")
        with pytest.raises(ZeroDivisionError):
            command.result()


def test_the_lines_of_a_command_are_shown() -> None:
    with serial() as net:
        error = net[1].eval("x = 1\ny = x / 0").exception()
        assert error is not None
        assert traceback.extract_tb(error.__traceback__)[-1].line == "y = x / 0"


def test_a_file_has_its_own_lines(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text("if __name__ == '__main__':\n    a = 1\n    raise ValueError(a)\n")
    with serial() as net:
        error = net[1].run(path).exception()
        assert isinstance(error, ValueError)
        last = traceback.extract_tb(error.__traceback__)[-1]
        assert (last.filename, last.lineno) == (str(path), 3)


def test_a_function_sees_names_of_the_workspace_and_keeps_its_own() -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("count = 0\ndef look(key):\n    global count\n    count += 1\n    return table[key]", space)
    look = space["look"]
    with serial() as net:
        net["table"] = {"a": 1}
        net["count"] = 100
        assert net[1].apply(look, "a").result() == 1
        assert net.submit(look, "a").result() == 1
        assert space["count"] == 2
        assert "table" not in space


async def twice(net: object) -> object:
    return await net.eval("6 * 7"), await net[1].eval("1"), await net.submit(abs, -1)  # type: ignore[attr-defined, index]


def test_await() -> None:
    import asyncio

    with serial() as net:
        assert asyncio.run(twice(net)) == ([42], 1, 1)


def test_ctrl_c_ends_the_call_itself() -> None:
    with serial() as net, pytest.raises(KeyboardInterrupt):
        net.eval("raise KeyboardInterrupt")
