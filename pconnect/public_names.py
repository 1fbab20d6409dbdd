"""What networks, nodes, commands and jobs share: names for users, and that they stay in their process."""

import difflib
from collections.abc import Sequence
from typing import ClassVar, NoReturn


class PublicNames:
    """Gives `dir`, and so completion, the names in `_for_users` of a class, and the public ones of what extends it.

    A class without such a list has only public names for users; what is below the first class with a list is
    described by that list, too.
    """

    _for_users: ClassVar[tuple[str, ...]]

    def __dir__(self) -> list[str]:
        """Return the names, and Python's own."""
        names = {name for name in object.__dir__(self) if name.startswith("__")}
        for kind in type(self).__mro__:
            listed = vars(kind).get("_for_users")
            if listed is not None:
                names.update(listed)
                break
            names.update(name for name in vars(kind) if not name.startswith("_"))
        return sorted(names)

    def __reduce_ex__(self, _: object) -> NoReturn:
        """Refuse to be pickled: what a user has put into a function or its arguments by mistake, mostly."""
        raise TypeError(
            f"a {type(self).__name__} cannot leave the process that made it; send what it has, such as job.result(). "
            "In an engine, `sockets` is the network; jobs have none"
        )


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint at the name that was probably meant, to be put behind an error.

    Examples
    --------
    >>> nearest("slts", ["slots", "bind"])
    ' (did you mean slots?)'
    >>> nearest("x", ["slots", "bind"])
    ' (there are: slots, bind)'
    """
    found = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {found[0]}?)" if found else f" (there are: {', '.join(known)})"
