"""Completion of names in the remote workspace for IPython, after ``%px`` and in ``%%px`` cells."""

import asyncio
import concurrent.futures
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from pconnect.errors import ParallelError
from pconnect.link.connection import Connection
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import call_service

# Seconds; a Tab key that takes longer than this feels broken.
_PATIENCE = 0.3
T = TypeVar("T")
_DOTTED_NAME = re.compile(r"[^\W\d][\w.]*$")
# Longer lists do not help, and menus become slow.
_MAX_NAMES = 500


def remote_names(node: Connection, text: str) -> list[str]:
    """Return an engine's completions of a dotted name; none if the engine is busy or does not answer immediately."""
    mesh: ClientMesh = node.mesh
    server = mesh.servers[node.node]
    if mesh.closed or server.state != "open" or server.running:
        return []
    command = call_service("workspace.complete", [text, _MAX_NAMES], node)
    try:
        names = command.result(_PATIENCE)
    except TimeoutError:
        command.cancel()
        return []
    except ParallelError:  # the engine is gone, or code of an attribute failed: no names
        return []
    # The engine's answer goes into the user's line, so accept only names.
    return [
        name for name in names if isinstance(name, str) and name.startswith(text) and _is_dotted_name(name)
    ]


def _is_dotted_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def in_loop_of_prompt(shell: Any, ask: Callable[[], T]) -> T | None:
    """Call ``ask()`` where networks may be used and return its result; ``None`` if that is not possible now.

    IPython's prompt completes in a separate thread while the main thread runs the prompt's event loop. A network
    belongs to one thread, so `ask` is called in that loop.
    """
    app = getattr(getattr(shell, "pt_app", None), "app", None)
    loop: asyncio.AbstractEventLoop | None = getattr(app, "loop", None)
    if loop is None or not loop.is_running() or asyncio._get_running_loop() is loop:
        return ask()

    async def asked() -> T:
        return ask()

    waiting = asyncio.run_coroutine_threadsafe(asked(), loop)
    try:
        return waiting.result(2 * _PATIENCE)
    except concurrent.futures.TimeoutError:  # the line was entered in the meantime
        waiting.cancel()
        return None


def make_matcher(
    shell: Any, find_node: Callable[[], Connection | None], is_everywhere: Callable[[], bool]
) -> Callable[[CompletionContext], SimpleMatcherResult]:
    """Return a matcher for ``Completer.custom_matchers``.

    `find_node`: returns the node to ask, or ``None``. `is_everywhere`: whether all cells run on the engines, even
    without ``%%px``.
    """

    @context_matcher()
    def match_remote_names(context: CompletionContext) -> SimpleMatcherResult:
        nothing = SimpleMatcherResult(completions=[])
        if not is_everywhere() and not is_remote(context.full_text, context.cursor_line):
            return nothing
        lines = context.full_text.split("\n")
        before = lines[context.cursor_line][: context.cursor_position]
        found = _DOTTED_NAME.search(before)
        if found is None or before.lstrip().startswith("%%"):
            return nothing
        word = found[0]

        def ask() -> list[str]:
            node = find_node()
            return [] if node is None else remote_names(node, word)

        names = [_as_token(name, word, context.token) for name in in_loop_of_prompt(shell, ask) or []]
        return SimpleMatcherResult(
            completions=[SimpleCompletion(text=name, type="remote") for name in names], ordered=True
        )

    made: Any = match_remote_names
    made.matcher_identifier = "pconnect.remote_names"
    matcher: Callable[[CompletionContext], SimpleMatcherResult] = made
    return matcher


def _as_token(name: str, word: str, token: str) -> str:
    """Return the replacement for IPython's token, which may be longer or shorter than the dotted name."""
    if token.endswith(word):
        return token[: len(token) - len(word)] + name
    return name[len(word) - len(token) :] if word.endswith(token) else name


def is_remote(cell: str, cursor_line: int) -> bool:
    r"""Return whether a line of a cell runs on the engines.

    Examples
    --------
    >>> is_remote("%%px\nx", 1), is_remote("%px x", 0), is_remote("x = 1\n%px x", 0)
    (True, True, False)
    """
    lines: Sequence[str] = cell.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("%%px"):
        return True
    return lines[cursor_line].lstrip().startswith("%px ")
