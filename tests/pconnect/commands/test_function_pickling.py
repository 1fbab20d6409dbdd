"""Functions and arguments, packed and unpacked in one process."""

import math
import threading
from collections.abc import Callable

import pytest

from pconnect.commands.function_pickling import (
    describe,
    pack_call,
    pickle_value,
    unpack_arguments,
    unpack_function,
    unpack_value,
)
from pconnect.errors import ConfigurationError, ProtocolError


def make_scale(factor: float) -> Callable[[float], float]:
    return lambda x: x * factor + offset  # type: ignore[name-defined] # noqa: F821 - the workspace has it


def test_a_function_brings_what_it_closes_over_and_borrows_the_rest() -> None:
    data, pickled, arguments, sources = pack_call(make_scale(3), [2], {"y": 1}, pickled=False)
    assert not pickled
    assert unpack_arguments(arguments, pickled=False) == ([2], {"y": 1})
    assert __file__ in sources
    function = unpack_function(data, {"offset": 10, "other": 1})
    assert function(2) == 16
    assert function.__code__.co_filename == __file__


def test_a_name_stays_a_name() -> None:
    assert pack_call("np.sum", [1], {}, pickled=False) == ["np.sum", False, [[1], {}], {}]


def test_arguments_by_pickle() -> None:
    _, pickled, arguments, _ = pack_call("f", [math], {"kind": int}, pickled=True)
    assert pickled and isinstance(arguments, bytes)
    assert unpack_arguments(arguments, pickled=True) == ([math], {"kind": int})


def test_what_cannot_be_sent_is_named() -> None:
    with pytest.raises(ConfigurationError, match="the arguments cannot be sent: TypeError"):
        pack_call("f", [iter(int, 1), threading.Lock()], {}, pickled=True)
    with pytest.raises(ConfigurationError, match="3 cannot be called"):
        pack_call(3, [], {}, pickled=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 3, [], [False], [False, 1, 2], [True, "text"], [2, 1], [1, b""]])
def test_what_is_not_the_value_of_a_command(value: object) -> None:
    with pytest.raises(ProtocolError):
        unpack_value(value, allow_pickle=True)


def test_pickled_values_only_where_allowed() -> None:
    sent = [True, pickle_value(math)]
    assert unpack_value(sent, allow_pickle=True) is math
    with pytest.raises(ProtocolError):
        unpack_value(sent, allow_pickle=False)
    assert unpack_value([False, {"a": 1}], allow_pickle=False) == {"a": 1}


def test_how_calls_are_described() -> None:
    assert describe(make_scale) == "make_scale(...)"
    assert describe(make_scale(1)) == "make_scale.<locals>.<lambda>(...)"
