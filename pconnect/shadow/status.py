"""The rows of `pshadow status`: each stand-in, its program, and whether it works."""

import os
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pconnect.shadow.in_place import InPlace, State
from pconnect.shadow.journal import FOLDER
from pconnect.shadow.path_search import first_found, folders_of, is_same, what_is_wrong
from pconnect.shadow.put_before import stand_ins
from pconnect.shadow.stand_in import StandIn, read_stand_in
from srp_tools.errors import ConfigurationError


class Row(NamedTuple):
    """One stand-in."""

    program: str  #: the name that users call
    stand_in: str  #: the path of the stand-in
    real: str  #: the path of the program
    how: str  #: ``"folder"`` or ``"in place"``
    first: str  #: ``"yes"``, or the path that PATH finds first
    wrong: str  #: the problem and the remedy; ``""`` if there is no problem


def folders_in_place(path: str) -> list[str]:
    """Return the folders of a search path that have stand-ins in place, each once, with links resolved."""
    real = dict.fromkeys(os.path.realpath(folder) for folder in folders_of(path))
    return [folder for folder in real if os.path.lexists(f"{folder}/{FOLDER}") or InPlace(folder).names()]


def rows_before(folder: str, path: str) -> Iterator[Row]:
    """Yield the stand-ins of a folder that should come first in a search path."""
    for name, stand_in in stand_ins(folder).items():
        place = os.path.join(folder, name)  # noqa: PTH118
        first = first_found(name, path)
        wrong = what_is_wrong(stand_in)
        if not wrong and not is_same(first, place):
            wrong = f"PATH finds {first or 'nothing'} first; run: {path_line(folder)}"
        yield Row(name, place, stand_in.program, "folder", _first(first, place), wrong)


def rows_in_place(folder: str, path: str) -> Iterator[Row]:
    """Yield the programs of a folder that have, or should have, a stand-in in their place."""
    programs = InPlace(folder)
    for name in programs.names():
        place = os.path.join(folder, name)  # noqa: PTH118
        stand_in = read_stand_in(place)
        first = first_found(name, path)
        before = read_stand_in(first) if first else None
        if before is not None and not before.in_place and is_same(before.program, place):
            first = place  # through the stand-in of another folder
        try:
            wrong = _wrong_in_place(programs.state(name), stand_in)
        except ConfigurationError as error:
            wrong = str(error)
        yield Row(
            name, place, place if stand_in is None else f"{place}_", "in place", _first(first, place), wrong
        )


def _wrong_in_place(state: State, stand_in: StandIn | None) -> str:
    if state is State.ON and stand_in is not None:
        return what_is_wrong(stand_in)
    return state.value


def _first(first: str, place: str) -> str:
    return "yes" if is_same(first, place) else first or "nothing"


def path_line(folder: str) -> str:
    """Return the shell command that puts a folder first in PATH.

    Examples
    --------
    >>> print(path_line("/opt/a b"))
    export PATH='/opt/a b':"$PATH"
    """
    return f'export PATH={shlex.quote(folder)}:"$PATH"'


def is_before(folder: str, names: Sequence[str], path: str) -> bool:
    """Return whether a search path leads to the stand-ins of a folder."""
    return all(is_same(first_found(name, path), os.path.join(folder, name)) for name in names)  # noqa: PTH118
