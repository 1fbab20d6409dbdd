"""The settings for running a program, in one form for the rules in ``prun.toml`` and the options of `prun`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from srp_tools.private_files import config_folder


@dataclass(frozen=True)
class Settings:
    """Settings for one program.

    Attributes
    ----------
    here
        Run it on this machine, never on a server.
    or_here
        Run it on this machine if no server can: none can be reached, the queue limit expires, or its node is lost and
        it may be repeated. Input that a program has received is never passed to another one.
    on
        Hosts or numbers of nodes that may run it; empty for any.
    ordered
        Prefer the first node of `on` (or of all nodes) with a free slot, instead of the least loaded one.
    accept
        A condition for nodes, such as ``"memory>8G and cpus>=4"``; empty for none.
    needs
        Whether only nodes that have a program of this name may run it.
    cwd
        Its working folder on the server; empty for the same path as here, mapped by `map_dir`.
    map_dir
        Pairs of a folder here and its path on the servers.
    send, fetch
        Relative names of files to send before and to fetch afterwards.
    sync
        Whether to send the folder here before, and to fetch its changes afterwards.
    env
        Variables to pass: ``NAME`` with its value here, or ``NAME=VALUE``.
    env_all
        Whether to pass all variables except those of the session (``HOME``, ``PATH``, ``SHELL``, ...).
    stdin
        Whether it reads our standard input. Otherwise its standard input is empty.
    terminal
        Whether it gets a terminal; ``None``: if standard input and output are terminals.
    time_limit, queue_limit
        The maximum number of seconds that it may run, and that it may wait for a slot.
    nice
        The number of steps by which to lower its priority, 0 to 19.
    concurrency
        The maximum number of such programs that run at the same time; 0 for no limit.
    repeatable
        Whether it may run again if its node is lost while it is running.
    command
        The program to run there instead of the given name; empty for the name itself.
    compiler
        Whether it is a C or C++ compiler. `pconnect.shadow` runs its compile steps on servers if a stand-in calls it.
    expand_native
        Whether to replace a compiler's ``-march=native`` by its meaning here, so that the step can run on servers.
    """

    here: bool = False
    or_here: bool = False
    on: tuple[str, ...] = ()
    ordered: bool = False
    accept: str = ""
    needs: bool = False
    cwd: str = ""
    map_dir: tuple[tuple[str, str], ...] = ()
    send: tuple[str, ...] = ()
    fetch: tuple[str, ...] = ()
    sync: bool = False
    env: tuple[str, ...] = ()
    env_all: bool = False
    stdin: bool = True
    terminal: bool | None = None
    time_limit: float | None = None
    queue_limit: float | None = None
    nice: int = 0
    concurrency: int = 0
    repeatable: bool = False
    command: str = ""
    compiler: bool = False
    expand_native: bool = False


@dataclass(frozen=True)
class Explained:
    """Settings, with the source of each one that is not the default, such as ``prun.toml, line 3``."""

    settings: Settings = Settings()
    sources: Mapping[str, str] = field(default_factory=dict)

    def changed(self, changes: Mapping[str, Any], source: str) -> "Explained":
        """Return these settings with changes, by name, from a source that takes precedence.

        Examples
        --------
        >>> changed = Explained().changed({"nice": 5}, "built in").changed({"nice": 7}, "--nice")
        >>> changed.settings.nice, changed.sources
        (7, {'nice': '--nice'})
        """
        sources = {**self.sources, **dict.fromkeys(changes, source)}
        return Explained(replace(self.settings, **changes), sources)


def rules_file() -> Path:
    """Return the path of the rules file. It need not exist."""
    return config_folder() / "client" / "prun.toml"
