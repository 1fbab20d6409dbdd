"""Stand-ins in the place of programs, which are kept beside as ``NAME_``, and put back exactly as they were.

A program is never copied: its name is moved, so it keeps its bytes, owner, mode, times and all else. At each moment
something of its name runs, the program or its stand-in:

* *on*: the record of the program; a second name for it, ``NAME_``, which fails if that is taken; the stand-in, moved
  over the first name.
* *off*: ``NAME_`` is moved over the stand-in; the record is removed.

Whatever has been done of it when the process is killed, what is there says what it was, see `State`, and `off` and `on`
begin with that. A package manager that upgrades the program replaces the stand-in: then that is kept, and the old
program goes.
"""

import enum
import os
import stat
import sys
from pathlib import Path

from pconnect.shadow.journal import Journal, Original
from pconnect.shadow.path_search import is_program, is_same
from pconnect.shadow.stand_in import check_name, read_stand_in
from srp_tools.errors import ConfigurationError

_SHELL = "/bin/sh"


class State(enum.Enum):
    """What there is of a program that may have a stand-in in its place; the text is what users read."""

    OFF = "is not shadowed"
    BEGUN = "it is in its place, but a pshadow was killed, or it was installed again; pshadow off"
    HALF = "it is in its place, and has a second name, for a pshadow was killed; pshadow off"
    ON = ""
    UPGRADED = "it was upgraded, so nothing goes away; pshadow off, or on again"
    REMOVED = "its stand-in was removed; pshadow off puts the program back"
    GONE = "it was removed, and its stand-in too; pshadow off"
    LOST = "the program that was kept beside is gone; install it again"
    FOREIGN = "what is kept beside is not the program that was put there; move the right one to its name"


class Outcome(enum.Enum):
    """What `InPlace.off` has done."""

    NOTHING = "was not shadowed"
    RESTORED = "is back"
    KEPT_UPGRADE = "was upgraded meanwhile: the upgrade stays, and the old program is removed"
    PUT_BACK = "had lost its stand-in: it is back"
    FORGOTTEN = "is gone, and so is its stand-in; it is not shadowed any more"
    KEPT_BOTH = "is no stand-in, and the file beside is not the one that was put there: both stay"


_RESTORING = {State.ON: Outcome.RESTORED, State.REMOVED: Outcome.PUT_BACK}
_REMOVING = {State.HALF: Outcome.RESTORED, State.UPGRADED: Outcome.KEPT_UPGRADE}
_ENDING = {State.BEGUN: Outcome.RESTORED, State.GONE: Outcome.FORGOTTEN, State.FOREIGN: Outcome.KEPT_BOTH}


class InPlace:
    """The programs of one folder that have stand-ins in their place. Who changes them holds the lock of the folder."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._journal = Journal(folder)

    def names(self) -> list[str]:
        """Return the names of programs that have a stand-in here, or whose stand-in was lost, or only begun."""
        try:
            kept = [name[:-1] for name in os.listdir(self._folder) if name.endswith("_")]  # noqa: PTH208
        except OSError:
            kept = []
        # Of those, also where somebody has removed the journal.
        return sorted({*self._journal.names(), *(name for name in kept if self._is_stand_in(name))})

    def state(self, name: str) -> State:
        """Return what there is of a program. Raises `ConfigurationError` if its record is damaged."""
        record = self._journal.read(name)
        here, kept = self._folder / name, self._folder / f"{name}_"
        original, beside = Original.of(here), Original.of(kept)
        is_right = not self._is_stand_in(kept.name) if record is None else record.is_like(beside)
        if self._is_stand_in(name):
            return State.LOST if beside is None else State.ON if is_right else State.FOREIGN
        if record is None:
            return State.OFF
        if beside is None:
            return State.GONE if original is None else State.BEGUN
        if original is None:
            return State.REMOVED if is_right else State.FOREIGN
        if original == beside:  # of one number, so one file
            return State.HALF
        # It is to be removed, so it has to be the very file.
        return State.UPGRADED if record == beside else State.FOREIGN

    def tidy(self) -> None:
        """Remove what a call that was killed has left before it did anything."""
        self._journal.tidy()

    def check(self, name: str) -> None:
        """Raise `ConfigurationError` if a program cannot have a stand-in in its place, and nothing was done yet."""
        check_name(name)
        path, kept = self._folder / name, self._folder / f"{name}_"
        state = self.state(name)
        if state in {State.LOST, State.FOREIGN}:
            raise ConfigurationError(f"{path}: {state.value}")
        if state is State.OFF and os.path.lexists(kept):
            raise ConfigurationError(
                f"{kept} is there already, and not of pshadow; move it away, or do without --in-place"
            )
        if state not in {State.ON, State.REMOVED} and not is_program(str(path)):
            raise ConfigurationError(f"there is no program {path}")
        if is_same(str(path), _SHELL) or is_same(str(path), sys.executable):
            raise ConfigurationError(f"{path} cannot be shadowed in place: stand-ins run it")
        if name.endswith("_") and self._is_stand_in(name[:-1]):
            raise ConfigurationError(f"{path} is what the stand-in {name[:-1]} runs")
        if state is State.OFF and read_stand_in(path) is not None:
            raise ConfigurationError(f"{path} is a stand-in for another program")

    def on(self, name: str, script: bytes) -> bool:
        """Put a stand-in in the place of a program; return whether anything changed.

        Raises `ConfigurationError`, see `check`, or `OSError`: then the program is in its place.
        """
        self.check(name)
        here, kept = self._folder / name, self._folder / f"{name}_"
        if self.state(name) is State.ON and self._journal.read(name) is not None:
            if here.read_bytes() == script:
                return False
            self._journal.write_new(name, script, stat.S_IMODE(here.stat().st_mode)).rename(here)
            return True
        self.off(name)
        original = Original.of(here)
        assert original is not None  # noqa: S101 - `check` has seen it
        try:
            self._journal.record(name, original)
            new = self._journal.write_new(name, script, 0o700)
            _be_like(new, here)
            os.link(here, kept, follow_symlinks=False)
            self._journal.sync()
            new.rename(here)
            self._journal.sync()
        except BaseException:
            self.off(name)
            raise
        return True

    def off(self, name: str) -> Outcome:
        """Put a program back to its place; say what was found.

        Raises `ConfigurationError` if the program was lost, `OSError` if the folder cannot be changed; then all is as
        it was, or a second call goes on.
        """
        state = self.state(name)
        here, kept = self._folder / name, self._folder / f"{name}_"
        if state is State.LOST or (state is State.FOREIGN and self._is_stand_in(name)):
            raise ConfigurationError(f"{here}: {state.value}")
        outcome = (_RESTORING | _REMOVING | _ENDING).get(state, Outcome.NOTHING)
        if state in _RESTORING:
            kept.rename(here)
            self._journal.sync()
        elif state in _REMOVING:
            kept.unlink()
        self._journal.forget(name)
        self._journal.tidy()
        return outcome

    def _is_stand_in(self, name: str) -> bool:
        stand_in = read_stand_in(self._folder / name)
        return stand_in is not None and stand_in.in_place


def _be_like(new: Path, program: Path) -> None:
    """Let those run a stand-in who can run the program; its interpreter has to read it, too."""
    facts = program.stat()
    ours = new.stat()
    if not program.is_symlink() and (facts.st_uid, facts.st_gid) != (ours.st_uid, ours.st_gid):
        os.chown(new, facts.st_uid, facts.st_gid)
    executable = facts.st_mode & 0o111
    new.chmod(executable | executable << 2 | facts.st_mode & 0o200)


def shadow_all(programs: InPlace, scripts: dict[str, bytes]) -> list[str]:
    """Put stand-ins in the place of programs; return the names of those that are new or changed.

    After an error none is shadowed that was not before.
    """
    for name in scripts:
        programs.check(name)
    before = programs.names()
    done = []
    try:
        for name, script in scripts.items():
            if programs.on(name, script):
                done.append(name)
    except BaseException:
        for name in done:
            if name not in before:
                programs.off(name)
        raise
    return done
