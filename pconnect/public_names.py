"""Shared behaviour of networks, nodes, commands and jobs: their `dir`, and refusal to be pickled."""

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar, NoReturn


class PublicNames:
    """Limits `dir`, and so completion, to the names in `_for_users` of a class and the public names of its subclasses.

    A class without such a list offers all its public names. The list of the first class that has one also stands for
    the classes below it.
    """

    _for_users: ClassVar[tuple[str, ...]]

    def __dir__(self) -> list[str]:
        """Return the names for users, and Python's own."""
        names = {name for name in object.__dir__(self) if name.startswith("__")}
        return sorted(names | names_for_users(type(self).__mro__))

    def __reduce_ex__(self, _: object) -> NoReturn:
        """Refuse to be pickled: usually, a user has put the object into a function or its arguments by mistake."""
        raise TypeError(
            f"a {type(self).__name__} cannot leave the process that made it; send its data, such as job.result(). "
            "In an engine, `sockets` is the network; jobs have none"
        )


def names_for_users(kinds: Iterable[type]) -> set[str]:
    """Return the public names that these classes define, up to the first that lists names for users, with its list."""
    names: set[str] = set()
    for kind in kinds:
        listed = vars(kind).get("_for_users")
        if listed is not None:
            return names | set(listed)
        names.update(name for name in vars(kind) if not name.startswith("_"))
    return names


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint at the name that was probably meant, to append to an error message.

    Examples
    --------
    >>> nearest("slts", ["slots", "bind"])
    ' (did you mean slots?)'
    >>> nearest("x", ["slots", "bind"])
    ' (known: slots, bind)'
    """
    found = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {found[0]}?)" if found else f" (known: {', '.join(known)})"
