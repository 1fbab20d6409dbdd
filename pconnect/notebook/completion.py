"""Completing names of the remote workspace in IPython, after ``%px`` and in ``%%px`` cells."""

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

# A key that does nothing for longer feels broken, in seconds.
_PATIENCE = 0.3
T = TypeVar("T")
_DOTTED_NAME = re.compile(r"[^\W\d][\w.]*$")
# Longer lists are of no help, and menus become slow.
_MAX_NAMES = 500


def remote_names(node: Connection, text: str) -> list[str]:
    """Return how an engine would complete a dotted name; nothing if it is busy or does not answer at once."""
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
    except ParallelError:  # it is gone, or an attribute's own code failed: no names
        return []
    # What an engine says is put into the user's line: names, and nothing else.
    return [
        name for name in names if isinstance(name, str) and name.startswith(text) and _is_dotted_name(name)
    ]


def _is_dotted_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def in_loop_of_prompt(shell: Any, ask: Callable[[], T]) -> T | None:
    """Return ``ask()``, called where networks may be used; ``None`` if that is not possible now.

    The prompt of IPython completes in a thread of its own while the main thread runs the event loop of the prompt. A
    network is used by one thread, so the question is handed to that loop.
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
    except concurrent.futures.TimeoutError:  # the line was entered meanwhile
        waiting.cancel()
        return None


def make_matcher(
    shell: Any, find_node: Callable[[], Connection | None], is_everywhere: Callable[[], bool]
) -> Callable[[CompletionContext], SimpleMatcherResult]:
    """Return a matcher for ``Completer.custom_matchers``.

    `find_node`: returns the node that is asked, or ``None``. `is_everywhere`: whether cells run on the engines without
    ``%%px``.
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
    """Return what IPython has to put in place of the token, which may be more or less than the dotted name."""
    if token.endswith(word):
        return token[: len(token) - len(word)] + name
    return name[len(word) - len(token) :] if word.endswith(token) else name


def is_remote(cell: str, cursor_line: int) -> bool:
    r"""Whether a line of a cell is run on the engines.

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
