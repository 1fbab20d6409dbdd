"""Functions that pickles of this package refer to by name. This module never moves, and its names never change.

A pickle refers to a function by its module and name, so both belong to the protocol between the two sides of a network,
like everything in doc/protocol.md. All functions of this package that are in pickles from the client to engines and
workers are here, with their helpers; so every other module may move. Change a name, an argument or a meaning here only
together with the version of the protocol.
"""

import ast
import contextlib
import linecache
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from pconnect.errors import UnavailableTypeError
from srp_tools.packages import import_own

#: In an engine and the workers forked from it: the broadcast values, by key. Like the table of modules, it belongs
#: to the process.
broadcast_values: dict[str, Any] = {}
#: In a worker: arrays sent once for several jobs, by number.
shared_arrays: dict[int, Any] = {}


def broadcast_value(key: str) -> Any:
    """Return a broadcast value; a pickle calls this in place of the value.

    Raises `UnavailableTypeError` if this process does not have it.
    """
    try:
        return broadcast_values[key]
    except KeyError:
        raise UnavailableTypeError(
            "this node does not have the broadcast value: it was sent only to other nodes or released, or the engine "
            "is a new one"
        ) from None


def shared_array(number: int) -> Any:
    """Return an array that this worker received before; a pickle calls this in place of the array."""
    return shared_arrays[number]


def global_generator(module: str) -> Any:
    """Return the generator behind the functions of `random` or `numpy.random`; a pickle calls this in its place."""
    return import_own(module).random.__self__


def map_part(function: Callable[..., Any] | str, items: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call a function, or an expression of the workspace, with each of the items: one part of a map."""
    called = function if callable(function) else eval(function, vars(sys.modules["__main__"]))  # noqa: S307 - the client may run anything
    begin_item = import_own(f"{__package__}.jobs.random_streams").begin_item
    results = []
    for position, item in enumerate(items):
        begin_item(position)
        results.append(called(*item))
    return results


def run_batch(data: bytes, sources: Mapping[str, str], threads: int | None) -> Any:
    """Unpickle a function without arguments and call it, with at most `threads` threads of numerical libraries.

    `sources` has source texts for tracebacks, by file name.
    """
    limit: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if threads:
        threadpoolctl = import_own("threadpoolctl")  # slow to import, and only joblib's batches need it

        limit = threadpoolctl.threadpool_limits(threads)
    with limit:
        keep_sources(sources)
        batch = cloudpickle.loads(data)
        import_own(f"{__package__}.jobs.worker_api").side.keep_imported()
        if hasattr(batch, "items"):  # a batch of joblib: a list of calls
            batch.items = [(_task, (position, *task), {}) for position, task in enumerate(batch.items)]
        return batch()


def _task(position: int, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run a task of a batch with its own random numbers."""
    import_own(f"{__package__}.jobs.random_streams").begin_item(position)
    return function(*args, **kwargs)


def byte_code(python: tuple[int, int], file_name: str, *parts: Any) -> types.CodeType:
    """Return a code object that keeps the name of its source file.

    Raises `UnavailableTypeError` if another version of Python compiled it: running it here would crash this process.
    """
    if python != sys.version_info[:2]:
        there, here = (".".join(map(str, version)) for version in (python, sys.version_info[:2]))
        raise UnavailableTypeError(
            f"this is byte code of Python {there} and cannot run in Python {here}: move the function or class into a "
            "module that both sides have"
        )
    return types.CodeType(*parts).replace(co_filename=file_name)


_OUTER = "_outer_of_sent_function"
_PYTHON = ".".join(map(str, sys.version_info[:3]))


def source_code(
    text: str,
    names: tuple[str, str, tuple[str, ...]],
    place: tuple[str, int],
    flags: int,
    *,
    imported: Iterable[str] = (),
) -> types.CodeType:
    """Return the code of the function that a text defines, compiled here; no other part of the text is run.

    `text`: a definition or a lambda, alone in its block or brackets. `names`: the qualified name of the function; the
    class around it, which the compiler puts before names such as ``__x``, or ``"_"``; and the names that it uses from
    functions around it. `place`: its file, and the number of lines in the file before the text. `flags`: the features
    that the file imports from ``__future__``. `imported`: the modules imported at the top of the file; calls of their
    attributes have other byte code with the same effect.

    Raises `UnavailableTypeError` if the text is not valid Python here, or defines something else.
    """
    (name, scope, free), (file_name, line) = names, place
    around = [
        *(f"import {each}" for each in imported),
        f"def {_OUTER}({', '.join(free)}):",
        f" class {scope}: pass",
    ]
    try:
        node = next(node for node in ast.walk(ast.parse(text)) if isinstance(node, FUNCTION_NODES))
        ast.increment_lineno(node, line)
        tree = ast.parse("\n".join(around))
        tree.body[-1].body[0].body = [_bare(node)]  # type: ignore[attr-defined]
        code = compile(tree, file_name, "exec", flags=flags, dont_inherit=True)
    except SyntaxError as error:
        where = f"line {line + (error.lineno or 0)} of {file_name}"
        raise UnavailableTypeError(
            f"{name} ({where}) is not valid in Python {_PYTHON}: {error.msg}"
        ) from None
    for _ in range(3):
        [code] = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    if code.co_freevars != free:
        raise UnavailableTypeError(
            f"{name} ({file_name}) uses other names of the enclosing functions in Python {_PYTHON}"
        )
    return _renamed(code, code.co_qualname, name)


#: Nodes of the syntax tree whose code can be sent.
FUNCTION_NODES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def _bare(node: Any) -> ast.stmt:
    """Return a definition as a bare statement, without parts that were evaluated already, such as decorators."""
    arguments: ast.arguments = node.args
    arguments.defaults = [ast.copy_location(ast.Constant(None), each) for each in arguments.defaults]
    arguments.kw_defaults = [
        each and ast.copy_location(ast.Constant(None), each) for each in arguments.kw_defaults
    ]
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    for argument in every:
        if argument is not None:
            argument.annotation = None
    if isinstance(node, ast.Lambda):
        return ast.copy_location(ast.Expr(node), node)
    node.decorator_list, node.returns, node.type_params = [], None, []
    return node  # type: ignore[no-any-return]


def _renamed(code: types.CodeType, old: str, new: str) -> types.CodeType:
    """Return code with a new prefix for its qualified name, and for the names of the code inside."""

    def rename(value: Any) -> Any:
        if isinstance(value, types.CodeType):
            return _renamed(value, old, new)
        # A class keeps its name among its constants.
        return (
            new + value[len(old) :]
            if isinstance(value, str) and value.startswith(f"{old}.<locals>.")
            else value
        )

    return code.replace(
        co_qualname=new + code.co_qualname[len(old) :], co_consts=tuple(map(rename, code.co_consts))
    )


def public(name: str) -> Any:
    """Return a public name of `pconnect` or `pconnect.job_side`; a pickle calls this in place of the object.

    Raises `AttributeError` if there is no such name, for example in another release.
    """
    package = sys.modules["pconnect"]
    # Imported at run time, for users only: no module of this package depends on modules above this one.
    return getattr(package if name in package.__all__ else import_own(f"{__package__}.job_side"), name)


def is_public(value: Any) -> bool:
    """Return whether `public` finds this class or function by its name."""
    module = str(value.__module__)
    if not module.startswith(("pconnect.", "srp_tools.")) or module == __name__:
        return False
    try:
        return public(value.__name__) is value
    except AttributeError:
        return False


def keep_sources(sources: Mapping[str, str]) -> None:
    """Register source texts for tracebacks, by file name."""
    for name, text in sources.items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
