"""What is to be run, and how: the same for `prun`, for stand-ins and for `prun-ssh`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pconnect.prun.settings import Settings


@dataclass(frozen=True)
class Plan:
    """One program.

    Attributes
    ----------
    name
        What messages call it.
    words
        What is run at a server.
    settings
        How.
    folder
        The folder of the server.
    variables
        What is added to the environment there.
    here
        What is run here instead, if that may be.
    is_shadow
        Whether a stand-in has called.
    nodes
        Where it may run; ``None``: where the settings allow it.
    terminal
        Rows and columns of its terminal; ``None``: it has none.
    login
        ``None``, or the account whose login shell runs the one line that `words` then is; empty: whichever it is.
    failure
        The exit status of our own failures.
    caller
        What messages begin with.
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
