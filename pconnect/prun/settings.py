"""How a program is to be run: what a rule of ``prun.toml`` and the options of `prun` say, in one form."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from srp_tools.private_files import config_folder


@dataclass(frozen=True)
class Settings:
    """How a program is to be run.

    Attributes
    ----------
    here
        On this machine, never on a server.
    or_here
        On this machine if no server can run it: none can be reached, or the queue limit has passed, or its node was
        lost and it may be repeated. What was given to a program that has begun is never given to another.
    on
        Hosts or numbers of nodes, of which one is to run it; empty: any.
    ordered
        The first of `on`, or of all nodes, that has a free slot, instead of the least loaded.
    accept
        What a node must have, such as ``"memory>8G and cpus>=4"``; empty: nothing.
    needs
        Whether only nodes that have a program of this name are taken.
    cwd
        The folder of the server where it is run; empty: the same path as here, mapped by `map_dir`.
    map_dir
        Pairs of a folder here and the same folder there.
    send, fetch
        Files that are sent before and fetched after; relative names.
    sync
        The folder here is sent before, and what has changed in it is fetched after.
    env
        ``NAME``, as it is here, or ``NAME=VALUE``.
    env_all
        All variables of the environment here, but those of the session (``HOME``, ``PATH``, ``SHELL``, ...).
    stdin
        Whether it reads our standard input; else it finds its end at once.
    terminal
        Whether it gets a terminal; ``None``: if standard input and output are terminals.
    time_limit, queue_limit
        Seconds that it may run, and that it may wait for a slot.
    nice
        How much lower its priority is than usual, 0 to 19.
    concurrency
        How many of its kind may run at once; 0: any number.
    repeatable
        Whether it may be run again when its node is lost in the middle.
    command
        What is run instead of its name there; empty: the name as given.
    compiler
        Whether it is a compiler of C or C++: if a stand-in calls it, its steps go away as `pconnect.shadow` says.
    expand_native
        Whether ``-march=native`` of a compiler is replaced by what it means here, so that its step can go away.
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
    """Settings, and for each that is not the default where it comes from, such as ``prun.toml, line 3``."""

    settings: Settings = Settings()
    sources: Mapping[str, str] = field(default_factory=dict)

    def changed(self, changes: Mapping[str, Any], source: str) -> "Explained":
        """Return these settings with others, by name, from a source that goes before.

        Examples
        --------
        >>> changed = Explained().changed({"nice": 5}, "built in").changed({"nice": 7}, "--nice")
        >>> changed.settings.nice, changed.sources
        (7, {'nice': '--nice'})
        """
        sources = {**self.sources, **dict.fromkeys(changes, source)}
        return Explained(replace(self.settings, **changes), sources)


def rules_file() -> Path:
    """Return the path of the file of rules. It need not exist."""
    return config_folder() / "client" / "prun.toml"
