"""The rules in ``prun.toml``: settings for programs by name and arguments.

.. code-block:: toml

    or_local = true              # at the top: for every program

    [[rule]]
    match = ["gcc", "*-g++"]     # patterns for the name, or for the path if they contain a "/"
    args = "-c"                  # only if an argument matches
    nice = 10

For each setting, the last matching rule that has it wins, so write general rules first. Built-in rules and the top of
the file come before all rules. A rule replaces the whole value of a setting, even of a list.
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

#: The time of the last change in nanoseconds, and the size of the file.
Stamp = tuple[int, int]

BUILT_IN = "built in"
# gcc, g++-13, clang-15, x86_64-linux-gnu-gcc; not gcc-ar.
_COMPILER = re.compile(r"(?:[\w.]+-)*(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(?:-\d+(?:\.\d+)*)?")
_OF_COMPILERS = {"compiler": True, "or_here": True, "repeatable": True}


@dataclass(frozen=True)
class Rule:
    """Settings for certain programs.

    Attributes
    ----------
    names
        Patterns for the name of the program. A rule without names and paths matches any program.
    paths
        Patterns for the path of the program, as given on the command line. One name or path must match.
    arguments
        Patterns for arguments. Each of them must match an argument.
    changes
        The settings, by their fields.
    sources
        The source of each setting.
    """

    names: tuple[re.Pattern[str], ...]
    paths: tuple[re.Pattern[str], ...]
    arguments: tuple[re.Pattern[str], ...]
    changes: Mapping[str, Any]
    sources: Mapping[str, str]

    def matches(self, words: Sequence[str]) -> bool:
        """Return whether the rule matches a program with its arguments."""
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
        The path of the file. It need not exist.
    stamp
        The stamp of the file when it was read, for comparison with `stamp_of`; ``None`` if there was no file.
    """

    path: Path
    stamp: Stamp | None
    rules: tuple[Rule, ...]

    def explain(self, words: Sequence[bytes]) -> Explained:
        """Return the settings for a program, with the source of each.

        Parameters
        ----------
        words
            The program, as given on the command line, and its arguments.
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
    """Read the rules file. If there is none, return only the built-in rules.

    Parameters
    ----------
    path
        The path of the file; by default this user's, `pconnect.prun.settings.rules_file`.

    Raises
    ------
    ConfigurationError
        The file is invalid, or other users can write to it and thus redirect your programs. The text names the line,
        and suggests a name for a misspelled one.
    """
    path = rules_file() if path is None else path
    stamp = stamp_of(path)  # taken before reading, so that a concurrent change is noticed next time
    toml = read_toml(path)
    if toml is None:
        return Rules(path, None, (_COMPILERS,))
    top = {key: value for key, value in toml.content.items() if key != "rule"}
    tables = toml.content.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise toml.error(("rule",), "rules are an array of tables; write [[rule]]")
    rules = [_rule(toml, ("rule", number), table) for number, table in enumerate(tables)]
    return Rules(path, stamp, (_COMPILERS, _rule(toml, (), top), *rules))


def stamp_of(path: Path) -> Stamp | None:
    """Return values that change with a file, ``None`` if there is no file."""
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
            place, 'a rule needs match, such as match = "gcc"; put settings for all programs above the rules'
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
