"""The source of functions of all kinds compiles to the same code again; if it does not, it is refused."""

import ast
import functools
import linecache
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from pconnect.commands.function_pickling import pack_call, pack_function, unpack_function
from pconnect.commands.function_source import NoSourceError, source_of
from pconnect.errors import ConfigurationError
from pconnect.remote_entry import source_code

FOREIGN = "node 2 (beta) has CPython 3.99.1"


def passed(function: Any) -> Any:
    """Return a function as an engine with another version of Python would have it, but in this version."""
    parts, _, memory = pack_function(function, FOREIGN)
    return unpack_function(b"".join(parts), {}, [bytes(part) for part in memory])


def twice(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, times: int = 2, **kwargs: Any) -> Any:
        return [function(*args, **kwargs) for _ in range(times)]

    return inner


Case = tuple[Callable[..., Any], tuple[Any, ...], Any]  # a function, its arguments, and its result


def lambdas() -> Iterator[Case]:
    factor = 3
    yield lambda x: x * 2, (4,), 8
    yield lambda x: x * factor, (4,), 12
    pair = lambda x: x + 1, lambda x: x + True, lambda x: x + 1.0
    for each in pair:
        yield each, (1,), each(1)  # type: ignore[no-untyped-call]
    yield (
        lambda a, b="""
  x""": a + b,
        ("a",),
        "a\n  x",
    )


def functions() -> Iterator[Case]:
    factor = 3

    def scaled(
        x: "int",
        *,
        by: int = factor,
        text: str = """two
lines""",
    ) -> tuple[int, str]:
        """Say what it does."""
        return functools.reduce(lambda a, b: a * b, [x, by]), text

    yield scaled, (2,), (6, "two\nlines")

    @twice
    @twice
    def decorated(x: int) -> int:
        return x + factor

    yield decorated, (1,), [[4, 4], [4, 4]]

    def recursive(n: int) -> int:
        return n * recursive(n - 1) if n else 1

    yield recursive, (5,), 120

    def generator(n: int) -> Iterator[int]:
        yield from range(n)

    yield generator, (3,), [0, 1, 2]

    def counter() -> Callable[[], int]:
        count = 0

        def count_on() -> int:
            nonlocal count
            count += 1
            return count

        return count_on

    yield counter(), (), 1


def classes() -> Iterator[Case]:
    class Base:
        def name(self) -> str:
            return "base"

    class Model(Base):
        __hidden = 5

        def __init__(self, scale: int) -> None:
            self.scale = scale

        def name(self) -> str:
            return f"{super().name()} {__class__.__name__}"  # type: ignore[name-defined]

        @property
        def hidden(self) -> int:
            return next(self.__hidden * scale for scale in [self.scale])

        @staticmethod
        def static(x: int) -> int:
            return x

        @classmethod
        def of_class(cls, x: int) -> tuple[str, int]:
            return cls.__qualname__, x

        def __call__(self, x: int) -> Any:
            return self.name(), self.hidden, self.static(x), self.of_class(x)

    name = "classes.<locals>.Model"
    yield Model(2), (1,), ("base Model", 10, 1, (name, 1))
    yield Model(2).of_class, (1,), (name, 1)

    def makes_class() -> str:
        class Made:
            pass

        return Made.__qualname__

    yield makes_class, (), "classes.<locals>.makes_class.<locals>.Made"


@pytest.mark.parametrize(("function", "args", "expected"), [*lambdas(), *functions(), *classes()])
def test_what_arrives_does_the_same(
    function: Callable[..., Any], args: tuple[Any, ...], expected: Any
) -> None:
    result = passed(function)(*args)
    assert (list(result) if isinstance(result, types.GeneratorType) else result) == expected


def test_coroutines_and_what_they_iterate() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 4

    async def first() -> int:
        return sum([each async for each in numbers()])

    with pytest.raises(StopIteration) as ended:
        passed(first)().send(None)
    assert ended.value.value == 4


def test_lines_columns_and_names_are_those_of_the_file() -> None:
    def outer() -> Callable[..., Any]:
        return (lambda x:
                x / 0)  # fmt: skip

    for function in (outer, outer()):
        code = function.__code__
        made = source_code(*source_of(code, code.co_filename))
        assert (made.co_filename, made.co_qualname) == (code.co_filename, code.co_qualname)
        assert list(made.co_positions())[-5:] == list(code.co_positions())[-5:]


def defined(text: str, name: str = "<a cell>", **names: Any) -> Any:
    """Return ``f`` from an executed text, as if it came from a notebook cell."""
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec", dont_inherit=True), names)
    return names["f"]


def test_a_cell_of_a_notebook_its_imports_and_what_it_has_of_the_future() -> None:
    text = """from __future__ import annotations
import math as m
def f(x: what):
    def g(y: that): pass
    return m.floor(x), g.__annotations__
"""
    assert passed(defined(text))(1.5) == (1, {"y": "that"})


def test_a_cell_whose_statements_are_compiled_one_by_one() -> None:
    text = "import math\ndef f(x): return math.floor(x)\n"
    defined(text)
    names: dict[str, Any] = {}
    for node in ast.parse(text).body:
        exec(compile(ast.Module([node], []), "<a cell>", "exec", dont_inherit=True), names)
    assert passed(names["f"])(1.5) == 1


def test_a_file_that_was_edited_and_imported_again() -> None:
    first = defined("def f(): return 1")
    linecache.cache["<a cell>"] = (1, None, ["def f(): return 2\n"], "<a cell>")
    with pytest.raises(NoSourceError, match=r"f \(line 1 of <a cell>\) does not match the running code"):
        source_of(first.__code__, "<a cell>")
    assert passed(defined("def f(): return 2"))() == 2


@pytest.mark.parametrize("function", [eval("lambda: 1"), types.SimpleNamespace])
def test_only_what_has_code_needs_a_text(function: Any) -> None:
    if isinstance(function, type):
        assert passed(function) is function
        return
    with pytest.raises(ConfigurationError) as error:
        pack_function(function, FOREIGN)
    assert str(error.value).startswith(
        f"<lambda>(...) cannot be sent: {FOREIGN}, and the client has CPython 3."
    )
    for words in ("<lambda> (line 1 of <string>) is not available", "sync_code", "net.eval"):
        assert words in str(error.value)
    with pytest.raises(ConfigurationError, match=r"the arguments cannot be sent: node 2 \(beta\) has"):
        pack_call("f", [[function]], {}, pickled=True, foreign=FOREIGN)


def test_a_file_that_is_no_python() -> None:
    function = defined("def f(): return 1")
    linecache.cache["<a cell>"] = (1, None, ["def f(: return 1\n"], "<a cell>")
    with pytest.raises(NoSourceError):
        source_of(function.__code__, "<a cell>")
