"""The plan for a program, in one form for `prun`, stand-ins and `prun-ssh`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pconnect.prun.settings import Settings


@dataclass(frozen=True)
class Plan:
    """One program and how to run it.

    Attributes
    ----------
    name
        Its name in messages.
    words
        The command line for a server.
    settings
        The settings from rules and options.
    folder
        The working folder on the server.
    variables
        Variables to add to the environment there.
    here
        The command line for this machine, if it may run here instead.
    is_shadow
        Whether the caller is a stand-in.
    nodes
        The nodes that may run it; ``None`` for all nodes that the settings allow.
    terminal
        Rows and columns of its terminal; ``None`` if it has no terminal.
    login
        ``None``, or the account whose login shell runs `words`, which is then one line; ``""`` for any account.
    failure
        The exit status if `prun` itself fails.
    caller
        The prefix of messages.
    """

    name: str
    words: Sequence[str | bytes]
    settings: Settings
    folder: str
    variables: dict[bytes, bytes] = field(default_factory=dict)
    here: Sequence[str] = ()
    is_shadow: bool = False
    nodes: frozenset[int] | None = None
    terminal: tuple[int, int] | None = None
    login: str | None = None
    failure: int = 125
    caller: str = "prun"
