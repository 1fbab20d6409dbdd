"""Stand-ins that replace programs in place. The program stays in the same folder as ``NAME_`` and is restored exactly.

A program is never copied. It only gets a new name, so it keeps its bytes, owner, mode and times. Its old name always
leads to an executable file, the program or its stand-in:

* *on* records the program, creates the hard link ``NAME_`` (which fails if that name exists), and renames the stand-in
  to ``NAME``.
* *off* renames ``NAME_`` to ``NAME`` over the stand-in, and removes the record.

If the process is killed between two steps, the files show how far it got (see `State`), and the next `on` or `off`
starts from there. When a package manager upgrades the program, it replaces the stand-in. Then *off* keeps the upgrade
and removes the old program.
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
    """The state of a program that may have a stand-in in its place. Users read the values."""

    OFF = "is not shadowed"
    BEGUN = "the program is in its place: pshadow was killed, or the program was reinstalled; run pshadow off"
    HALF = "the program is in its place with a second name: pshadow was killed; run pshadow off"
    ON = ""
    UPGRADED = "the program was upgraded, so it runs here; run pshadow off, or on again"
    REMOVED = "the stand-in was removed; run pshadow off to restore the program"
    GONE = "the program and its stand-in were removed; run pshadow off"
    LOST = "the saved program is gone; install it again"
    FOREIGN = "the saved file is not the original program; move the original program back to its name"


class Outcome(enum.Enum):
    """The result of `InPlace.off`."""

    NOTHING = "was not shadowed"
    RESTORED = "is restored"
    KEPT_UPGRADE = "was upgraded meanwhile: the upgrade stays, and the old program is removed"
    PUT_BACK = "is restored; its stand-in had been removed"
    FORGOTTEN = "is gone, and so is its stand-in; it is no longer shadowed"
    KEPT_BOTH = "is not a stand-in, and the saved file is not the original program: both files stay"


_RESTORING = {State.ON: Outcome.RESTORED, State.REMOVED: Outcome.PUT_BACK}
_REMOVING = {State.HALF: Outcome.RESTORED, State.UPGRADED: Outcome.KEPT_UPGRADE}
_ENDING = {State.BEGUN: Outcome.RESTORED, State.GONE: Outcome.FORGOTTEN, State.FOREIGN: Outcome.KEPT_BOTH}


class InPlace:
    """The programs of one folder that have stand-ins in their place. Callers that change them lock the folder."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._journal = Journal(folder)

    def names(self) -> list[str]:
        """Return the names of programs with a stand-in, including lost and unfinished stand-ins."""
        try:
            kept = [name[:-1] for name in os.listdir(self._folder) if name.endswith("_")]  # noqa: PTH208
        except OSError:
            kept = []
        # This also finds stand-ins whose journal was removed.
        return sorted({*self._journal.names(), *(name for name in kept if self._is_stand_in(name))})

    def state(self, name: str) -> State:
        """Return the state of a program. Raises `ConfigurationError` if its record is damaged."""
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
        if original == beside:  # the inode is the same, so it is one file
            return State.HALF
        # `off` removes this file, so it must be exactly the recorded one.
        return State.UPGRADED if record == beside else State.FOREIGN

    def tidy(self) -> None:
        """Remove files that a killed `pshadow` left before it changed a program."""
        self._journal.tidy()

    def check(self, name: str) -> None:
        """Raise `ConfigurationError` if a program cannot have a stand-in in its place. Changes nothing."""
        check_name(name)
        path, kept = self._folder / name, self._folder / f"{name}_"
        state = self.state(name)
        if state in {State.LOST, State.FOREIGN}:
            raise ConfigurationError(f"{path}: {state.value}")
        if state is State.OFF and os.path.lexists(kept):
            raise ConfigurationError(
                f"{kept} already exists, and pshadow did not create it; move it away, or omit --in-place"
            )
        if state not in {State.ON, State.REMOVED} and not is_program(str(path)):
            raise ConfigurationError(f"there is no program {path}")
        if is_same(str(path), _SHELL) or is_same(str(path), sys.executable):
            raise ConfigurationError(f"{path} cannot be shadowed in place: stand-ins run it")
        if name.endswith("_") and self._is_stand_in(name[:-1]):
            raise ConfigurationError(f"{path} is the program that the stand-in {name[:-1]} runs")
        if state is State.OFF and read_stand_in(path) is not None:
            raise ConfigurationError(f"{path} is a stand-in for another program")

    def on(self, name: str, script: bytes) -> bool:
        """Replace a program by a stand-in; return whether anything changed.

        Raises `ConfigurationError` (see `check`) or `OSError`. Then the program is still in its place.
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
            _copy_access(new, here)
            os.link(here, kept, follow_symlinks=False)
            self._journal.sync()
            new.rename(here)
            self._journal.sync()
        except BaseException:
            self.off(name)
            raise
        return True

    def off(self, name: str) -> Outcome:
        """Put a program back in its place, and return the outcome.

        Raises `ConfigurationError` if the program was lost, `OSError` if the folder cannot be changed. Then nothing has
        changed, or a second call resumes.
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


def _copy_access(new: Path, program: Path) -> None:
    """Give a stand-in the owner and the execute permissions of its program, and let its interpreter read it."""
    facts = program.stat()
    ours = new.stat()
    if not program.is_symlink() and (facts.st_uid, facts.st_gid) != (ours.st_uid, ours.st_gid):
        os.chown(new, facts.st_uid, facts.st_gid)
    executable = facts.st_mode & 0o111
    new.chmod(executable | executable << 2 | facts.st_mode & 0o200)


def shadow_all(programs: InPlace, scripts: dict[str, bytes]) -> list[str]:
    """Replace programs by stand-ins; return the names of the new and changed ones.

    After an error, only the programs are shadowed that were shadowed before.
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
