"""The source text of functions, for nodes with another version of Python.

Byte code of one minor version crashes the process of another. So the code of a function is sent there as the text of
its definition and compiled there; defaults, closure, globals and everything else are sent as usual. The text may be
wrong: the file was edited after it was imported, a decorator or a debugger made other code, two lambdas are in one
line. So a text is used only if it compiles, here, to exactly the code that would run here.
"""

import __future__

import ast
import functools
import itertools
import linecache
import types
from collections.abc import Iterator, Sequence
from typing import Any

from pconnect.remote_entry import FUNCTION_NODES, source_code

_CODES_KEPT = 1024

_FUTURE = functools.reduce(
    lambda flags, name: flags | getattr(__future__, name).compiler_flag, __future__.all_feature_names, 0
)
# Flags of code that depend on where it was defined: CO_NESTED, and CO_METHOD of Python 3.14.
_OF_PLACE = 0x10 | 0x8000000


class NoSourceError(Exception):
    """The source text of a function is not available; the error text says why."""


_Form = tuple[str, tuple[str, str, tuple[str, ...]], tuple[str, int], int]


@functools.lru_cache(_CODES_KEPT)
def source_of(code: types.CodeType, file_name: str) -> _Form:
    """Return the arguments with which `source_code` makes this code again. Raises `NoSourceError`."""
    if file_name != code.co_filename:  # code objects of two files may be equal
        raise AssertionError("the name of another file")
    wanted = _comparable(code)
    for _ in range(2):
        lines = linecache.getlines(file_name)
        text = "".join(lines)
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        for form in _candidates(tree, text, code):
            # A notebook compiles each statement alone, so the imports above have no effect there.
            made = (source_code(*form, imported=imported) for imported in (_imported(tree), ()))
            if any(_comparable(each) == wanted for each in made):
                return form
        linecache.checkcache(file_name)  # the cache may be older than the last edit and import
    raise NoSourceError(_why_not(code, lines))


def _why_not(code: types.CodeType, lines: Sequence[str]) -> str:
    where = f"{code.co_qualname} (line {code.co_firstlineno} of {code.co_filename})"
    if not lines:
        return f"the source text of {where} is not available"
    return f"the source text of {where} does not match the running code: one of them was changed"


def _candidates(tree: ast.Module, text: str, code: types.CodeType) -> Iterator[_Form]:
    """Yield arguments for `source_code`, for each definition in a file that may be the one of this code."""
    for node, scope in _definitions(tree):
        # Code begins with its decorators; the result of `source_code` begins after them.
        if code.co_firstlineno not in {
            node.lineno,
            *(each.lineno for each in getattr(node, "decorator_list", [])),
        }:
            continue
        if isinstance(node, ast.Lambda):
            begin, own = "(", f"{' ' * node.col_offset}{ast.get_source_segment(text, node)}\n)"
        else:
            begin, own = "if 1:", "\n".join(text.split("\n")[node.lineno - 1 : node.end_lineno])
        # Keep the indentation of definitions, and lambdas with several lines: for tracebacks, and long strings.
        if begin == "(" or own[0].isspace():
            own, line = f"{begin}\n{own}", node.lineno - 2
        else:
            line = node.lineno - 1
        names = code.co_qualname, scope, code.co_freevars
        yield own, names, (code.co_filename, line), code.co_flags & _FUTURE


def _definitions(tree: ast.AST) -> Iterator[tuple[Any, str]]:
    """Yield the functions in a tree, each with the name of the enclosing class."""
    waiting = [(tree, "_")]
    while waiting:
        node, scope = waiting.pop()
        if isinstance(node, FUNCTION_NODES):
            yield node, scope
        inner = node.name if isinstance(node, ast.ClassDef) else scope
        waiting += zip(ast.iter_child_nodes(node), itertools.repeat(inner), strict=False)


def _imported(tree: ast.Module) -> list[str]:
    """Return the names imported at the top level of a file."""
    names: list[str] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            names += [(each.asname or each.name).partition(".")[0] for each in node.names if each.name != "*"]
        elif not isinstance(node, (*FUNCTION_NODES, ast.ClassDef)):
            waiting += ast.iter_child_nodes(node)
    return names


def _comparable(code: types.CodeType) -> types.CodeType:
    """Return code without the parts that depend on its place."""
    constants = tuple(
        _comparable(each) if isinstance(each, types.CodeType) else each for each in code.co_consts
    )
    return code.replace(
        co_filename="",
        co_firstlineno=1,
        co_linetable=b"",
        co_flags=code.co_flags & ~_OF_PLACE,
        co_consts=constants,
    )
