"""Pickling of functions and arguments for an engine, and of its results for the client.

Functions are sent by cloudpickle, only from the client to its servers: anyone who may log in there may run code anyway.
Arguments and results are sent as values; arguments of other types are also pickled, results only if the caller allows
it. Apart from `pconnect.remote_entry`, which has the functions that pickles refer to, nothing else in this package
unpickles anything.
"""

import functools
import linecache
import platform
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from pconnect.commands.function_source import NoSourceError, source_of
from pconnect.commands.random_generators import (
    generator_types,
    global_in_place_of,
    warn_of_copies,
    warn_of_same_state,
)
from pconnect.errors import ConfigurationError, ProtocolError
from pconnect.remote_entry import byte_code, is_public, keep_sources, map_part, public, source_code
from pconnect.values import padding

# Longer source texts are left out of tracebacks.
_MAX_SOURCE_CHARACTERS = 2**18

_RESULT = "the value"  # in errors

# The types that `is_public` handles; a tuple, because a union would be created again for each object.
_NAMED = (type, types.FunctionType)

# Returns a replacement to pickle for an object, as ``__reduce__`` does, or ``None`` for none.
_Substitute = Callable[[object], tuple[Any, ...] | None]


def describe(function: Callable[..., Any] | str) -> str:
    """Return a short name of a function for errors and lists of commands.

    Examples
    --------
    >>> describe("np.linalg.norm"), describe(len)
    ('np.linalg.norm(...)', 'len(...)')
    """
    if isinstance(function, functools.partial):
        return describe(function.args[0] if function.func is map_part else function.func)
    name = function if isinstance(function, str) else getattr(function, "__qualname__", None)
    return f"{name or repr(function)}(...)"


def pack_call(
    function: Callable[..., Any] | str,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    pickled: bool,
    foreign: str = "",
) -> list[Any]:
    """Return the message for a call, with the arguments as values or `pickled`.

    `foreign`: which of the receivers have another version of Python, as text; they get functions as source text.

    Raises `ConfigurationError` if the function or an argument cannot be pickled; the text says why.
    """
    arguments: Any = [list(args), dict(kwargs)]
    sources: dict[str, str] = {}
    if pickled:
        arguments, sources = _pickle(arguments, "the arguments", foreign)
    if isinstance(function, str):
        return [function, pickled, arguments, sources]
    _check_callable(function)
    data, more = _pickle(function, None, foreign)
    return [data, pickled, arguments, sources | more]


def pack_function(
    function: Callable[..., Any], foreign: str = ""
) -> tuple[list[bytes | bytearray], dict[str, str], list[memoryview]]:
    """Return a pickled function, in parts, the source texts it was defined in, and the memory of its arrays.

    That memory is not copied: it is the arrays' own. Nor are large bytes objects, each of which is a separate part.

    Raises `ConfigurationError` if it cannot be pickled; the text says why.
    """
    _check_callable(function)
    memory: list[Any] = []
    parts, sources = _pickle_in_parts(function, None, foreign, buffer_callback=memory.append)
    return parts, sources, [buffer.raw() for buffer in memory]


def _check_callable(function: object) -> None:
    if not callable(function):
        raise ConfigurationError(f"{function!r} cannot be called: give a function or an expression")


def pack_arguments(args: Sequence[object], *, pickled: bool, foreign: str = "") -> list[Any]:
    """Return the message for a service call, with the arguments as values or `pickled`.

    Raises `ConfigurationError` if an argument cannot be pickled; the text says why.
    """
    if not pickled:
        return [False, list(args), {}]
    data, sources = _pickle(list(args), "the arguments", foreign)
    return [True, data, sources]


def unpack_service_arguments(contents: list[Any]) -> list[Any]:
    """Return the arguments passed to `pack_arguments`; for an engine, which trusts its client."""
    pickled, args, sources = contents
    keep_sources(sources)
    unpacked: list[Any] = cloudpickle.loads(args) if pickled else args
    return unpacked


def pack_batch(batch: Callable[[], Any], substitute: _Substitute, foreign: str = "") -> list[Any]:
    """Return the arguments of `pconnect.remote_entry.run_batch` for a callable without arguments.

    Raises `ConfigurationError` if it cannot be pickled; the text says why.
    """
    return list(_pickle(batch, "the tasks", foreign, substitute))


def unpack_function(
    data: bytes, workspace: Mapping[str, Any], memory: Sequence[bytes | bytearray] = ()
) -> Callable[..., Any]:
    """Return a function; for an engine, which trusts its client.

    Its arrays use `memory` from now on. They are read-only, because all jobs of the worker that call it share them.
    Names that it uses but did not bring along are looked up in the workspace.
    """
    buffers = [memoryview(data).toreadonly() for data in memory]
    function: Callable[..., Any] = cloudpickle.loads(data, buffers=buffers)
    _lend_names(function, workspace)
    return function


def _lend_names(function: object, workspace: Mapping[str, Any]) -> None:
    if isinstance(function, functools.partial):
        for part in (function.func, *function.args):
            _lend_names(part, workspace)
    elif (
        function is not map_part
        and isinstance(function, types.FunctionType)
        and function.__globals__ is not workspace
    ):
        for name in _names_used(function.__code__):
            if name in workspace:
                function.__globals__.setdefault(name, workspace[name])


def unpack_arguments(arguments: Any, *, pickled: bool) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments and keyword arguments; for an engine, which trusts its client."""
    args, kwargs = cloudpickle.loads(arguments) if pickled else arguments
    return args, kwargs


def _names_used(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_used(constant)


def pickle_value(value: object) -> bytes:
    """Return a pickled value, for a caller who allows it."""
    data, _ = _pickle(value, _RESULT)
    return data


def unpack_value(value: Any, *, allow_pickle: bool) -> Any:
    """Return the value of a command from the received data.

    Raises `ProtocolError` if it is malformed, or pickled without permission.
    """
    match value:
        case [False, plain]:
            return plain
        case [True, bytes() as data] if allow_pickle:
            return cloudpickle.loads(data)
    raise ProtocolError("not the value of a command")


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Cloudpickle that keeps the names of source files, and puts substitutes in place of some objects."""

    def __init__(
        self, substitute: _Substitute, buffer_callback: Callable[[Any], None] | None, foreign: str
    ) -> None:
        self.parts: list[bytes | bytearray] = []
        # Large bytes objects are written as they are, so collecting the parts does not copy them.
        super().__init__(types.SimpleNamespace(write=self.parts.append), buffer_callback=buffer_callback)
        self.file_names: set[str] = set()
        self._substitute = substitute
        self._foreign = foreign
        self.generators: list[object] = []  # random generators, whose copies give the same numbers
        self._generator_types = generator_types()

    def reducer_override(self, obj: Any) -> Any:
        if (other := self._substitute(obj)) is not None:
            return other
        if isinstance(obj, types.CodeType):
            return self._reduce_code(obj)
        if isinstance(obj, _NAMED) and is_public(obj):
            return public, (obj.__name__,)
        if isinstance(obj, padding.MAY_HAVE_PADDING) and (unpadded := padding.for_pickle(obj)) is not obj:
            return unpadded.__reduce_ex__(cloudpickle.DEFAULT_PROTOCOL)
        if isinstance(obj, self._generator_types):
            if (other := global_in_place_of(obj)) is not None:
                return other
            self.generators.append(obj)
        return super().reducer_override(obj)

    def _reduce_code(self, code: types.CodeType) -> tuple[Any, ...]:
        self.file_names.add(code.co_filename)
        if self._foreign:
            return source_code, source_of(code, code.co_filename)
        _, parts = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
        return byte_code, (sys.version_info[:2], code.co_filename, *parts)


def _pickle(
    value: object, what: str | None, foreign: str = "", substitute: _Substitute = lambda _: None
) -> tuple[bytes, dict[str, str]]:
    """Return a pickled value, and the source texts of its functions for tracebacks on the other side."""
    parts, texts = _pickle_in_parts(value, what, foreign, substitute)
    return b"".join(parts), texts


def _advice(foreign: str, error: NoSourceError) -> str:
    own = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"{foreign}, and the client has {own}. Byte code of one version crashes the other, so functions are sent there "
        f"as source text, but {error}. Put the function into a module and send that with pconnect.code_sync.sync_code, "
        "run the same Python on both sides, or send source text with net.eval"
    )


def _pickle_in_parts(
    value: object,
    what: str | None,
    foreign: str,
    substitute: _Substitute = lambda _: None,
    buffer_callback: Callable[[Any], None] | None = None,
) -> tuple[list[bytes | bytearray], dict[str, str]]:
    pickler = _Pickler(substitute, buffer_callback, foreign)
    try:
        pickler.dump(value)
    except NoSourceError as error:
        name = what or describe(value)  # type: ignore[arg-type] # without `what`, it is a function
        raise ConfigurationError(f"{name} cannot be sent: {_advice(foreign, error)}") from error
    except Exception as error:
        raise ConfigurationError(
            f"{what or repr(value)} cannot be sent: {type(error).__name__}: {error}"
        ) from error
    if pickler.generators:
        if what is None:
            warn_of_copies(pickler.generators, value, describe(value))  # type: ignore[arg-type]
        elif what != _RESULT:
            warn_of_same_state(pickler.generators, what)
    texts = {name: "".join(linecache.getlines(name)) for name in pickler.file_names}
    return pickler.parts, {
        name: text for name, text in texts.items() if 0 < len(text) <= _MAX_SOURCE_CHARACTERS
    }
