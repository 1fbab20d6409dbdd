"""The names in the reference of the Python interface: read from its pages and looked up in the packages."""

import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pconnect.public_names import PublicNames, names_for_users

PAGES = Path(__file__).parent.parent / "reference" / "api"
_BLOCK = re.compile(r"^```\{api\} *(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: Public names of classes that users know by another name, or get only from a call and cannot import.
CLASSES = {
    "pconnect.Network": "pconnect.views.network_views.ClientNetwork",
    "pconnect.Connection": "pconnect.views.network_views.ClientConnection",
    "AsyncResult": "pconnect.executors.multiprocessing_pool.AsyncResult",
    "Broadcast": "pconnect.jobs.broadcast_value.Broadcast",
    "CompletedProgram": "pconnect.programs.completed.CompletedProgram",
    "Dashboard": "pconnect.statistics.dashboard.Dashboard",
    "Executor": "pconnect.executors.executor.Executor",
    "JobOutputs": "pconnect.jobs.output_files.JobOutputs",
    "Pool": "pconnect.executors.multiprocessing_pool.Pool",
    "Program": "pconnect.programs.program.Program",
    "ProgramTemplate": "pconnect.programs.template.ProgramTemplate",
    "ProgramsThere": "pconnect.programs.which.ProgramsThere",
    "ResultIterator": "pconnect.executors.multiprocessing_pool.ResultIterator",
    "Statistics": "pconnect.statistics.server_table.Statistics",
    "Table": "pconnect.commands.table.Table",
}


@dataclass(frozen=True)
class Entry:
    """One entry of the reference.

    `name` is the public name, with its package; `found` is the object; `members` are the names with their own entries
    below it; `owner` is the name of a method's class.
    """

    name: str
    found: Any
    members: tuple[str, ...] = ()
    owner: str = ""

    @property
    def is_class(self) -> bool:
        """Whether the object is a class, not a function, method or property."""
        return isinstance(self.found, type)


def load(path: str) -> Any:
    """Return the object at a dotted path; raise `LookupError` if there is none."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:]:
            try:
                found = (
                    inspect.getattr_static(found, name) if isinstance(found, type) else getattr(found, name)
                )
            except AttributeError:
                raise LookupError(path) from None
        return found
    raise LookupError(path)


def members_for_users(kind: type) -> list[str]:
    """Return the public names of a class: the names that it lists for users, or all names that our classes define."""
    ours = (
        each
        for each in kind.__mro__
        if each is not PublicNames and each.__module__.startswith(("pconnect", "pserver", "srp_tools"))
    )
    return sorted(names_for_users(ours))


def entries_of(module: str, lines: str) -> Iterator[Entry]:
    """Return the entries of one block of a page.

    A line is a name, ``Class.method``, or ``Class: method method``, which limits a class to these methods.
    """
    for line in filter(None, map(str.strip, lines.splitlines())):
        name, colon, listed = line.partition(":")
        prefix = f"{module}." if module else ""
        owner, _, method = name.rpartition(".")
        if owner:
            full = f"{prefix}{owner}"
            yield Entry(f"{full}.{method}", load(f"{CLASSES.get(full, full)}.{method}"), owner=full)
            continue
        full = f"{prefix}{name}"
        found = load(CLASSES.get(full, full))
        members: tuple[str, ...] = ()
        if isinstance(found, type) and not issubclass(found, BaseException):
            chosen = listed.split() if colon else members_for_users(found)
            members = tuple(each for each in chosen if has_own_entry(found, each))
        yield Entry(full, found, members)
        for each in members:
            yield Entry(f"{full}.{each}", inspect.getattr_static(found, each), owner=full)


def has_own_entry(kind: type, name: str) -> bool:
    """Return whether a member is a method or property; all others are among the attributes of its class."""
    member = inspect.getattr_static(kind, name, None)
    return callable(member) or isinstance(
        member, property | functools.cached_property | classmethod | staticmethod
    )


@functools.cache
def all_entries() -> dict[str, Entry]:
    """Return the entries of all pages by name; raise `ValueError` for duplicates."""
    found: dict[str, Entry] = {}
    for page in sorted(PAGES.glob("*.md")):
        for module, lines in _BLOCK.findall(page.read_text(encoding="utf-8")):
            for entry in entries_of(module, lines):
                if entry.name in found:
                    raise ValueError(f"{page.name}: duplicate entry {entry.name}")
                found[entry.name] = entry
    return found


def real_path(found: Any) -> str:
    """Return the dotted path of an object's definition."""
    found = getattr(found, "fget", None) or getattr(found, "func", None) or getattr(found, "__func__", found)
    return f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"


@functools.cache
def public_names() -> dict[str, str]:
    """Return the names of the reference by the paths of the objects' definitions."""
    known = {real_path(entry.found): entry.name for entry in all_entries().values()}
    return known | {
        "pconnect.loop.network.Network": "pconnect.Network",
        "pconnect.link.connection.Connection": "pconnect.Connection",
        "pconnect.one_process.network.SerialNetwork": "pconnect.Network",
    }
