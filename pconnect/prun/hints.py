"""What was probably meant by the name of a program that does not exist."""

import re
import shlex

# Those of shells that change or show the shell itself, so there is no program of their name.
_BUILTINS = {
    ".", "alias", "bg", "cd", "declare", "eval", "exec", "export", "fg", "hash", "history", "jobs", "local", "popd",
    "pushd", "read", "set", "shopt", "source", "type", "typeset", "ulimit", "umask", "unalias", "unset",
}  # fmt: skip
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.ASCII | re.DOTALL)


def hint(name: str) -> str:
    """Return what to write instead of the name of a program that was not found; empty: that is not known.

    Examples
    --------
    >>> print(hint("ls -l"))
    there is no program 'ls -l'; give the words apart: prun ls -l
    >>> print(hint("cd"))
    cd belongs to a shell: prun sh -c 'cd ...'
    >>> hint("gcc-99")
    ''
    """
    if _ASSIGNMENT.fullmatch(name):
        return f"{name} is no program; variables are given with --env {shlex.quote(name)}"
    if name in _BUILTINS:
        return f"{name} belongs to a shell: prun sh -c '{name} ...'"
    if "/" not in name.partition(" ")[0] and len(name.split()) > 1:
        return f"there is no program {name!r}; give the words apart: prun {name}"
    return ""
