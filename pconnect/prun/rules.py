"""The rules in ``prun.toml``: how a program is to be run, by its name and arguments.

.. code-block:: toml

    or_local = true              # at the top: for every program

    [[rule]]
    match = ["gcc", "*-g++"]     # by its name, or by its path where there is a "/"
    args = "-c"                  # if it has such an argument
    nice = 10

Each setting is that of the last rule that matches the program and has it; so rules go from the general to the special.
In front of them are the rules that are built in, and the top of the file. What a rule says replaces the whole value,
also of a list.
"""

import fnmatch
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pconnect.errors import ConfigurationError
from pconnect.prun.setting_keys import KEYS, setting
from pconnect.prun.settings import Explained, rules_file
from pconnect.public_names import nearest
from pconnect.toml_file import Place, TomlFile, read_toml

#: Time of the last change in nanoseconds, and size.
Stamp = tuple[int, int]

BUILT_IN = "built in"
# gcc, g++-13, clang-15, x86_64-linux-gnu-gcc; not gcc-ar.
_COMPILER = re.compile(r"(?:[\w.]+-)*(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(?:-\d+(?:\.\d+)*)?")
_OF_COMPILERS = {"compiler": True, "or_here": True, "repeatable": True}


@dataclass(frozen=True)
class Rule:
    """Settings, and for which programs they are.

    Attributes
    ----------
    names
        One of them matches the program's name; none: any program.
    paths
        Or one of these matches its path, as it was given.
    arguments
        For each there is an argument that it matches.
    changes
        The settings, by their fields.
    sources
        Where each of them stands.
    """

    names: tuple[re.Pattern[str], ...]
    paths: tuple[re.Pattern[str], ...]
    arguments: tuple[re.Pattern[str], ...]
    changes: Mapping[str, Any]
    sources: Mapping[str, str]

    def matches(self, words: Sequence[str]) -> bool:
        """Return whether it is for a program with its arguments."""
        path, *arguments = words
        name = path.rpartition("/")[2]
        is_meant = (
            not (self.names or self.paths)
            or any(pattern.fullmatch(name) for pattern in self.names)
            or any(pattern.fullmatch(path) for pattern in self.paths)
        )
        return is_meant and all(
            any(pattern.fullmatch(argument) for argument in arguments) for pattern in self.arguments
        )


@dataclass(frozen=True)
class Rules:
    """All rules, in the order in which they are applied.

    Attributes
    ----------
    path
        Of the file. It need not exist.
    stamp
        Of the file when it was read, to be compared with `stamp_of`; ``None``: there was none.
    """

    path: Path
    stamp: Stamp | None
    rules: tuple[Rule, ...]

    def explain(self, words: Sequence[bytes]) -> Explained:
        """Return how a program is to be run, and where each setting comes from.

        Parameters
        ----------
        words
            The program, as it was given, and its arguments.
        """
        texts = [os.fsdecode(word) for word in words]
        explained = Explained()
        for rule in self.rules:
            if rule.matches(texts):
                for name, value in rule.changes.items():
                    explained = explained.changed({name: value}, rule.sources[name])
        return explained


_COMPILERS = Rule((_COMPILER,), (), (), _OF_COMPILERS, dict.fromkeys(_OF_COMPILERS, BUILT_IN))


def read_rules(path: Path | None = None) -> Rules:
    """Read the file of rules; without one, there are the rules that are built in.

    Parameters
    ----------
    path
        Of the file; by default that of this user, `pconnect.prun.settings.rules_file`.

    Raises
    ------
    ConfigurationError
        The file cannot be used, or others can write it: it says where your programs run. The text has the line, and the
        name that was probably meant.
    """
    path = rules_file() if path is None else path
    stamp = stamp_of(path)  # before the content: what is written meanwhile is read the next time
    toml = read_toml(path)
    if toml is None:
        return Rules(path, None, (_COMPILERS,))
    top = {key: value for key, value in toml.content.items() if key != "rule"}
    tables = toml.content.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise toml.error(("rule",), "a rule is one of several tables: write [[rule]]")
    rules = [_rule(toml, ("rule", number), table) for number, table in enumerate(tables)]
    return Rules(path, stamp, (_COMPILERS, _rule(toml, (), top), *rules))


def stamp_of(path: Path) -> Stamp | None:
    """Return what changes with a file; ``None``: there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size


def _rule(toml: TomlFile, place: Place, table: Mapping[str, object]) -> Rule:
    patterns: dict[str, list[str]] = {"match": [], "args": []}
    changes: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, value in table.items():
        try:
            if place and key in patterns:
                patterns[key] = _patterns(key, value)
                continue
            _check_key(key, is_rule=bool(place))
            name, made = setting(key, value)
        except ConfigurationError as error:
            raise toml.error((*place, key), str(error)) from None
        changes[name] = made
        sources[name] = f"{toml.path.name}, line {toml.line((*place, key))}"
    if place and not patterns["match"]:
        raise toml.error(
            place, 'a rule has match, such as match = "gcc"; what is for all programs is above all rules'
        )
    names = [each for each in patterns["match"] if "/" not in each]
    paths = [os.path.expanduser(each) for each in patterns["match"] if "/" in each]  # noqa: PTH111 - it never raises
    return Rule(_compiled(names), _compiled(paths), _compiled(patterns["args"]), changes, sources)


def _check_key(key: str, *, is_rule: bool) -> None:
    known = [*(["match", "args"] if is_rule else ["rule"]), *KEYS]
    if key in known:
        return
    hint = "; it belongs below a [[rule]]" if key in {"match", "args"} else nearest(key, known)
    raise ConfigurationError(f"{key!r} is not a setting of prun{hint}")


def _patterns(key: str, value: object) -> list[str]:
    patterns: list[Any] = value if isinstance(value, list) else [value]
    if not patterns or not all(isinstance(each, str) and each for each in patterns):
        raise ConfigurationError(f"{key} must be a pattern or a list of patterns, not {value!r}")
    return patterns


def _compiled(patterns: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(fnmatch.translate(pattern)) for pattern in patterns)
