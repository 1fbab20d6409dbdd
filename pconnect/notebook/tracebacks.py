"""Errors of engines in IPython and notebooks: the user's frames, then the remote traceback, without our own frames."""

import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import srp_tools
from pconnect.commands.remote_errors import enumerated
from pconnect.errors import ParallelError, RemoteError
from srp_tools.printable import printable_text

_OURS = tuple(
    f"{folder}/"
    for folder in (Path(__file__).resolve().parents[1], Path(str(srp_tools.__file__)).resolve().parent)
)
# For further nodes only the headlines are shown.
_SHOWN_IN_FULL = 4
_RED, _PLAIN = "\x1b[1;31m", "\x1b[0m"


def install(shell: Any) -> None:
    """Make an IPython shell show errors of engines with `show`."""
    shell.set_custom_exc((ParallelError, BaseExceptionGroup, KeyboardInterrupt, TimeoutError), show)


def remove(shell: Any) -> None:
    """Let a shell show all errors in IPython's way again."""
    shell.set_custom_exc((), None)


def show(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    trace: types.TracebackType | None,
    tb_offset: int | None = None,
) -> list[str] | None:
    """Show an error; a custom exception handler for IPython's ``set_custom_exc``."""
    frames = [frame for frame, _ in traceback.walk_tb(trace)]
    if not _is_ours(error) and not any(_is_in(frame, _OURS) for frame in frames):
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
        return None
    lines = [*_user_frames(shell, trace), *(_colour(shell, block) for block in describe(error))]
    shell._showtraceback(kind, error, lines)
    return lines


def describe(error: BaseException) -> list[str]:
    r"""Return the text of an error, in blocks that each begin with a headline.

    Each error of a group has a block; identical errors share one. If there are many, only the first ones are shown in
    full.

    Examples
    --------
    >>> failures = [RemoteError(node, "alpha", "x", "NameError", "no x", "Traceback...") for node in (1, 2)]
    >>> print(*describe(ExceptionGroup("", failures)), sep="\n")
    NameError on nodes 1 and 2 (alpha) in command 'x'
    Traceback...
    """
    errors = list(_leaves(error))
    alike: dict[tuple[object, ...], list[BaseException]] = {}
    for each in errors:
        key = (each.type_name, each.remote_traceback) if isinstance(each, RemoteError) else (id(each),)
        alike.setdefault(key, []).append(each)
    blocks = []
    for index, group in enumerate(alike.values()):
        headline, rest = _headline_and_rest(group)
        blocks.append(f"{headline}\n{rest}" if rest and index < _SHOWN_IN_FULL else headline)
    if len(alike) > _SHOWN_IN_FULL:
        blocks.append(
            "(the last tracebacks are omitted: they are in the attribute `exceptions` of the error)"
        )
    return blocks + [f"note: {printable_text(note)}" for note in getattr(error, "__notes__", [])]


def _headline_and_rest(group: Sequence[BaseException]) -> tuple[str, str]:
    first = group[0]
    if not isinstance(first, RemoteError):
        text = printable_text(str(first))
        return f"{type(first).__name__}{': ' * bool(text)}{text}", ""
    nodes = enumerated(str(error.node) for error in group if isinstance(error, RemoteError))
    hosts = ", ".join(dict.fromkeys(error.host for error in group if isinstance(error, RemoteError)))
    where = str(first).split("\n", 1)[0].rpartition(" in command ")[2]
    plural = "s" * (len(group) > 1)
    return (
        f"{first.type_name} on node{plural} {nodes} ({hosts}) in command {where}",
        first.remote_traceback.rstrip(),
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _is_ours(error: BaseException) -> bool:
    return all(isinstance(each, ParallelError) for each in _leaves(error))


def _user_frames(shell: Any, trace: types.TracebackType | None) -> list[str]:
    """Return the places in the user's code that led to the error; none for a magic, where it is the whole cell."""
    ipython = str(Path(str(sys.modules["IPython"].__file__)).parent) + "/"
    if any(
        frame.f_globals.get("__name__") == "pconnect.notebook.magics" for frame, _ in traceback.walk_tb(trace)
    ):
        return []
    told = []
    for frame, line in traceback.walk_tb(trace):
        name = frame.f_code.co_filename
        if _is_in(frame, (ipython,)):
            continue
        if _is_in(frame, _OURS):
            break  # this frame and those below are ours
        summary = traceback.FrameSummary(name, line, frame.f_code.co_name)
        named = shell.compile.format_code_name(name)
        label = " ".join(named) if named else f"File {name}"
        function = "" if summary.name == "<module>" else f", in {summary.name}"
        told.append(f"{label}, line {line}{function}\n----> {summary.line}")
    return told


def _is_in(frame: types.FrameType, folders: tuple[str, ...]) -> bool:
    return frame.f_code.co_filename.startswith(folders)


def _colour(shell: Any, block: str) -> str:
    if str(shell.colors).lower() == "nocolor":
        return block
    word, rest = block[: len(block.split(" ", 1)[0])], block[len(block.split(" ", 1)[0]) :]
    return f"{_RED}{word}{_PLAIN}{rest}"
