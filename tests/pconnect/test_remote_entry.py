"""The functions that pickles refer to: their names do not change, and each works in place of its object."""

import linecache
import types
from typing import Any

import numpy as np
import pytest

from pconnect import (
    ConfigurationError,
    Network,
    RemoteError,
    UnavailableTypeError,
    bcast,
    psend,
    remote_entry,
)
from pconnect.commands.function_pickling import _Pickler, pack_batch, pack_call, pickle_value, unpack_value
from pconnect.job_side import job_number
from pconnect.remote_entry import broadcast_value, byte_code, map_part, run_batch, shared_array, source_code


def test_names_and_arguments_in_pickles_do_not_change() -> None:
    functions = [value for value in vars(remote_entry).values() if isinstance(value, types.FunctionType)]
    own = {each.__name__: each for each in functions if each.__module__ == "pconnect.remote_entry"}
    arguments = {name: each.__code__.co_varnames[: each.__code__.co_argcount] for name, each in own.items()}
    assert arguments == {
        "broadcast_value": ("key",),
        "shared_array": ("number",),
        "global_generator": ("module",),
        "map_part": ("function", "items"),
        "run_batch": ("data", "sources", "threads"),
        "_task": ("position", "function", "args", "kwargs"),
        "byte_code": ("python", "file_name"),
        "source_code": ("text", "names", "place", "flags"),
        "_bare": ("node",),
        "_renamed": ("code", "old", "new"),
        "public": ("name",),
        "is_public": ("value",),
        "keep_sources": ("sources",),
    }


def test_a_part_is_done_item_by_item() -> None:
    assert map_part(pow, [(2, 3), (3, 2)]) == [8, 9]
    assert map_part("divmod", [(7, 2)]) == [(3, 1)]


@pytest.mark.parametrize("threads", [None, 1])
def test_a_batch_is_called_with_its_sources_there(threads: int | None) -> None:
    data, sources = pack_batch(lambda: 6 * 7, lambda _: None)
    assert run_batch(data, sources | {"<a cell of a batch>": "6 * 7\n"}, threads) == 42
    assert linecache.getline("<a cell of a batch>", 1) == "6 * 7\n"


def test_code_keeps_the_name_of_its_file() -> None:
    code = compile("1", "<here>", "eval")
    data = pack_call(lambda: code, (), {}, pickled=False)[0]
    assert b"remote_entry" in data and byte_code.__name__.encode() in data


def test_byte_code_of_another_version_is_refused() -> None:
    _, (python, *parts) = _Pickler(lambda _: None, None, "")._reduce_code(compile("1", "<here>", "eval"))
    assert eval(byte_code(python, *parts)) == 1
    with pytest.raises(UnavailableTypeError, match=r"byte code of Python 3\.99 and cannot run in Python 3\."):
        byte_code((3, 99), *parts)


def test_a_text_that_is_no_python_here_is_refused() -> None:
    with pytest.raises(UnavailableTypeError, match=r"later \(line 7 of a\.py\) is not valid in Python 3\."):
        source_code("def later():\n  ?", ("later", "_", ()), ("a.py", 5), 0)
    with pytest.raises(
        UnavailableTypeError, match=r"f \(a\.py\) uses other names of the enclosing functions"
    ):
        source_code("lambda: x", ("f", "_", ("x", "y")), ("a.py", 0), 0)


@pytest.mark.parametrize("value", [psend, bcast, job_number, RemoteError, ConfigurationError, Network])
def test_what_users_import_is_found_by_its_public_name(value: Any) -> None:
    data = pickle_value([value])
    assert value.__module__.encode() not in data
    assert unpack_value([True, data], allow_pickle=True) == [value]


def test_other_names_are_not_public() -> None:
    class RemoteError:  # a class of the user
        pass

    for value in (RemoteError, map_part, pack_batch, pickle_value, len, dict):
        assert not remote_entry.is_public(value)
    with pytest.raises(AttributeError):
        remote_entry.public("no_such_name")


def test_what_is_not_here() -> None:
    with pytest.raises(UnavailableTypeError, match="this node does not have"):
        broadcast_value("no such key")
    with pytest.raises(KeyError):
        shared_array(-1)


def test_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(3)
    monkeypatch.setitem(remote_entry.broadcast_values, "key", "value")
    monkeypatch.setitem(remote_entry.shared_arrays, 5, array)
    assert broadcast_value("key") == "value"
    assert shared_array(5) is array
