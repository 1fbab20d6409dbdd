"""Guess the intended command when the name of a program does not exist."""

import re
import shlex

# Shell commands that change or show the shell itself. There are no programs with these names.
_BUILTINS = {
    ".", "alias", "bg", "cd", "declare", "eval", "exec", "export", "fg", "hash", "history", "jobs", "local", "popd",
    "pushd", "read", "set", "shopt", "source", "type", "typeset", "ulimit", "umask", "unalias", "unset",
}  # fmt: skip
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.ASCII | re.DOTALL)


def hint(name: str) -> str:
    """Return a hint about a program name that was not found, ``""`` if there is none.

    Examples
    --------
    >>> print(hint("ls -l"))
    there is no program 'ls -l'; write separate words: prun ls -l
    >>> print(hint("cd"))
    cd is a shell command; run: prun sh -c 'cd ...'
    >>> hint("gcc-99")
    ''
    """
    if _ASSIGNMENT.fullmatch(name):
        return f"{name} is not a program; set variables with --env {shlex.quote(name)}"
    if name in _BUILTINS:
        return f"{name} is a shell command; run: prun sh -c '{name} ...'"
    if "/" not in name.partition(" ")[0] and len(name.split()) > 1:
        return f"there is no program {name!r}; write separate words: prun {name}"
    return ""
