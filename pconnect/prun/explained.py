"""The text of ``prun --explain CMD``: the settings for a program, their sources, and the choice of nodes."""

import os
import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence

from pconnect.prun.placement import Choice, NodeFacts
from pconnect.prun.places import environment, there
from pconnect.prun.setting_keys import KEY_OF
from pconnect.prun.settings import Explained, Settings
from srp_tools.printable import printable_name

WIDTH = 100
DEFAULT = "default"

# These settings are always shown, even with their defaults, because they matter for every program.
_ALWAYS = ("here", "or_here", "on", "cwd", "env", "stdin", "time_limit", "queue_limit", "repeatable")
# These settings are not shown for a program that runs on this machine.
_OF_SERVERS = {
    "or_here", "on", "ordered", "accept", "needs", "cwd", "map_dir", "send", "fetch", "sync", "env", "env_all", "stdin",
    "terminal", "time_limit", "queue_limit", "nice", "concurrency", "repeatable", "command", "compiler",
    "expand_native",
}  # fmt: skip
# A second setting that may determine the value of the first.
_ORIGINS = {"cwd": "map_dir", "env": "env_all"}
# With any of these settings, the program runs in a private folder.
_GO_ALONG = ("sync", "send", "fetch")


def explain(
    words: Sequence[bytes],
    explained: Explained,
    *,
    cwd: str,
    real: str = "",
    here: Mapping[bytes, bytes] | None = None,
    facts: Sequence[NodeFacts] = (),
    choice: Choice | str | None = None,
) -> str:
    """Explain how a program would run, with one setting and its source on each line.

    Parameters
    ----------
    words
        The program and its arguments.
    explained
        Its settings and their sources.
    cwd, real
        The folder here, as in `pconnect.prun.places.there`.
    here
        The environment here.
    facts
        Facts about the nodes.
    choice
        The choice of nodes, or the reason why there is none; ``None`` if no node was asked.
    """
    settings, sources = explained.settings, explained.sources
    program = shlex.join(printable_name(os.fsdecode(word)) for word in words)
    rows = [("program", program, "")]
    if settings.command:
        rows.append((KEY_OF["command"], settings.command, sources.get("command", DEFAULT)))
    along = next((name for name in _GO_ALONG if getattr(settings, name)), "")
    folder = _private(settings) if along else there(cwd, settings, real)
    texts = _texts(settings, folder, environment(settings, here or {}))
    for name, key in KEY_OF.items():
        is_shown = name in sources or name in _ALWAYS
        if name != "command" and is_shown and not (settings.here and name in _OF_SERVERS):
            text = texts[name]() if name in texts else _plain(getattr(settings, name))
            origin = along if name == "cwd" and along else _ORIGINS.get(name, "")
            other = sources.get(origin, DEFAULT) if name != "cwd" or text != cwd else DEFAULT
            rows.append((key, text, sources.get(name, other)))
    if not settings.here and choice is not None:
        rows += _of_nodes(facts, choice)
    return _aligned(rows)


def _private(settings: Settings) -> str:
    place = "a private folder on the server"
    return f"{settings.cwd} in {place}" if settings.cwd else place


def _texts(
    settings: Settings, folder: str, variables: Mapping[bytes, bytes]
) -> Mapping[str, Callable[[], str]]:
    """Return functions that describe settings whose text is more than the value."""
    names = ", ".join(sorted(printable_name(os.fsdecode(name)) for name in variables)) or "none from here"
    return {
        "here": lambda: "local: on this machine" if settings.here else "server",
        "or_here": lambda: (
            "yes: on this machine if no server can run it" if settings.or_here else "no: never on this machine"
        ),
        "on": lambda: ", ".join(settings.on) or "any server",
        "cwd": lambda: folder,
        "map_dir": lambda: ", ".join(f"{ours} is {theirs} there" for ours, theirs in settings.map_dir),
        "env": lambda: names,
        "stdin": lambda: "yes" if settings.stdin else "no: standard input is empty",
        "time_limit": lambda: _seconds(settings.time_limit),
        "queue_limit": lambda: _seconds(settings.queue_limit),
        "concurrency": lambda: f"at most {settings.concurrency} at a time" if settings.concurrency else "no limit",
        "repeatable": lambda: (
            "yes: run again if its server is lost" if settings.repeatable else "no: not run again if its server is lost"
        ),
        "compiler": lambda: (
            "yes: from a stand-in, only compile steps run on servers"
            if settings.compiler
            else "no: any program"
        ),
    }  # fmt: skip


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "" if value is None else str(value)


def _seconds(limit: float | None) -> str:
    return "no limit" if limit is None else f"{limit:g} s"


def _of_nodes(facts: Sequence[NodeFacts], choice: Choice | str) -> list[tuple[str, str, str]]:
    if isinstance(choice, str):
        lines = choice.splitlines()
        return [("nodes" if not number else "", line, "") for number, line in enumerate(lines)]
    known = {each.node: each.name for each in facts}
    rows = [
        (
            "then" if place else "first",
            known.get(node, f"node {node}") + ("" if place else f": {choice.why}"),
            "",
        )
        for place, node in enumerate(choice.nodes)
    ]
    return rows + [
        ("not", f"{known.get(node, f'node {node}')}: {reason}", "") for node, reason in choice.reasons.items()
    ]


def _aligned(rows: Sequence[tuple[str, str, str]]) -> str:
    """Format the rows in three columns. Long text is wrapped within its column."""
    keys = max(len(key) for key, _, _ in rows)
    sources = min(max(len(source) for _, _, source in rows), WIDTH // 3)
    longest = max(len(text) for _, text, source in rows if source)
    texts = min(longest, WIDTH - keys - sources - 4)
    lines = []
    for key, text, source in rows:
        # Text without a source may use the full width.
        parts = textwrap.wrap(text, texts if source else WIDTH - keys - 2) or [""]
        ends = textwrap.wrap(source, sources) if source else []
        for number in range(max(len(parts), len(ends))):
            part = parts[number] if number < len(parts) else ""
            end = ends[number] if number < len(ends) else ""
            lines.append(f"{'' if number else key:{keys}}  {part:{texts}}  {end}".rstrip())
    return "\n".join(lines)
