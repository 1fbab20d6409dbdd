"""Prepare preprocessed source for another machine: find text that must not be sent, and remove or rename parts."""

import posixpath
import re
from collections.abc import Mapping

from pconnect.shadow.compiler_words import Away, Family, Form

# A line marker: line number, file name, and flags. Flag 1 begins an included file, flag 2 ends it.
_MARK = re.compile(rb'# (\d+) "((?:[^"\\\n]|\\.)*)"([ \d]*)')
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_NO_FILES = b"<built-in>", b"<command-line>", b"<command line>"
# A pattern that begins with fixed bytes is several times faster than one that begins with "^".
_PRAGMA_ONCE = re.compile(rb"pragma[ \t]+once\b[^\n]*")
_DIRECTIVE = re.compile(rb"[ \t]*#[ \t]*")
# Text that refers to the clock or files of the compiling machine, or to the name of the source, which may be standard
# input there.
_TIED = b"__DATE__", b"__TIME__", b"__TIMESTAMP__", b"__BASE_FILE__", b".incbin", b".include "
_TIED_DIRECTIVE = re.compile(
    rb"^[ \t]*#[ \t]*(?:embed|pragma[ \t]+GCC[ \t]+(?:dependency|pch_preprocess))\b", re.MULTILINE
)
_COUNTED = re.compile(rb"^[ \t]*#[ \t]*(?:el)?if\b.*\b__COUNTER__", re.MULTILINE)
_IN_TIED_DIRECTIVES = b"embed", b"dependency", b"pch_preprocess"
# The same as `_MARK`, but anywhere. Spaces may precede it, left over from a removed directive. Clang ends it with the
# line ending of the source.
_ANY_MARK = re.compile(rb'# \d+ "((?:[^"\\\n]|\\.)*)"((?: [1-4])*)(?=\r?\n)')
#: Options that make the compiler record file names to which it applies no prefix map.
_NAMES_AS_THEY_ARE = "-fsanitize", "-flto"
_OUTER = re.compile(rb"/|(?:\.\./)+")


def tied_to_this_machine(text: bytes, what: str = "the source") -> str:
    """Return why a text must be compiled here, ``""`` if it need not be. `what` names the text in the answer."""
    found = next((word for word in _TIED if word in text), None)
    if found is None and any(word in text for word in _IN_TIED_DIRECTIVES):
        directive = _TIED_DIRECTIVE.search(text)
        found = directive and directive[0].strip()
    if found:
        return f"{what} contains {found.decode('ascii')}, which depends on the machine"
    return ""


def user_files(text: bytes) -> set[bytes]:
    """Return the names of all files in the text that are not system headers, as the text spells them."""
    users: set[bytes] = set()
    system: set[bytes] = set()
    for mark in _ANY_MARK.finditer(text):
        if not _line_before(mark).strip():
            (system if b" 3" in mark[2] else users).add(mark[1])
    return {name for name in users - system if name and name[:1] != b"<" and name[-2:] != b"//"}


def all_files(text: bytes) -> set[str]:
    """Return the names of all files in the text."""
    names = {_name(raw) for raw, _ in set(_ANY_MARK.findall(text))}
    return {name for name in names if name and name[0] != "<" and not name.endswith("//")}


def put_inside(text: bytes) -> tuple[bytes, dict[str, str]]:
    """Rename files outside of the working folder to names inside, such as ``.outer1/x.h`` for ``/x.h``.

    Under its old name, a file could not be put where GCC on another machine looks for it.

    Returns
    -------
    text, beginnings
        The text with new names, and a mapping of new prefixes to old ones.
    """
    beginnings: dict[str, str] = {}
    renamed: dict[bytes, bytes] = {}
    for name in sorted(user_files(text)):
        if found := _OUTER.match(name):
            inner = f".outer{found[0].count(b'/')}{'' if found[0] == b'/' else 'up'}/"
            beginnings[inner] = found[0].decode()
            renamed[name] = inner.encode() + name[found.end() :]

    def rename(mark: re.Match[bytes]) -> bytes:
        new = renamed.get(mark[1])
        is_mark = new is not None and not _line_before(mark).strip()
        return mark[0].replace(mark[1], new, 1) if new is not None and is_mark else mark[0]

    return (_ANY_MARK.sub(rename, text) if renamed else text), beginnings


def restoring(away: Away, beginnings: Mapping[str, str]) -> list[str]:
    """Return options that restore in the object the names that `put_inside` changed.

    They follow the options of the command. GCC reads maps for macros before all other maps, so these options must be
    of the same kinds.

    Raises
    ------
    ValueError
        No options can do so, because of options in the command.
    """
    if away.family is Family.CLANG or any(word.startswith(_NAMES_AS_THEY_ARE) for word in away.options):
        raise ValueError(f"{away.compiler} has options that record file names without prefix maps")
    words = []
    for inner, outer in beginnings.items():
        words += [f"-f{kind}-prefix-map={inner}={outer}" for kind in ("macro", "debug")]
        for option, old, new in away.prefix_maps:
            if outer.startswith(old) and outer != old:
                raise ValueError(f"{option}={old} replaces more than {outer}")
            if old.startswith(outer):
                words.append(f"{option}={inner}{old[len(outer) :]}={new}")
    return words


def files_shown(text: bytes) -> list[str]:
    """Return the names of files inside the working folder whose lines GCC may show in its messages."""
    inner = {posixpath.normpath(_name(raw)) for raw in user_files(text)}
    return sorted(
        name for name in inner if name != "." and not name.startswith(("/", "../")) and name != ".."
    )


def _name(raw: bytes) -> str:
    return _ESCAPE.sub(_unescaped, raw).decode("utf-8", "surrogateescape")


def directory_of(text: bytes) -> str:
    """Return the folder that GCC recorded in preprocessed source for debugging information; empty if none."""
    marks = [_MARK.match(line) for line in text.split(b"\n", 2)[:2]]
    if len(marks) < 2 or marks[1] is None or not marks[1][2].endswith(b"//"):
        return ""
    return _name(marks[1][2]).removesuffix("//") or "/"


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8)]) if len(found[1]) == 3 else found[1]


def for_compiler(text: bytes, form: Form) -> bytes:
    """Return the text to compile.

    Built-in macros and macros from the command are removed: the compiler there defines them itself. ``#pragma once`` of
    headers is removed, too: the compiler reads one file, in which it would be an error.

    Raises
    ------
    ValueError
        It is unclear what to remove, or a condition, which the preprocessor evaluated here, uses ``__COUNTER__``.
    """
    if form is Form.REWRITTEN and b"__COUNTER__" in text and _COUNTED.search(text):
        raise ValueError("a condition uses __COUNTER__, and the preprocessor evaluated it here")
    if form in (Form.REWRITTEN, Form.FILES):
        return text
    if form is Form.SOURCE:
        end = _end_of_head(text)
        text = b"".join(_head_lines(text[:end])) + text[end:]
    main = _MARK.match(text)
    name = main[2] if main else b""
    return _PRAGMA_ONCE.sub(lambda found: found[0] if _is_kept(found, name) else b"", text)


def _is_kept(found: re.Match[bytes], main: bytes) -> bool:
    """Return whether to keep a ``#pragma once``: it is not a directive, or it belongs to the source itself."""
    if not _DIRECTIVE.fullmatch(_line_before(found)):
        return True
    text, start = found.string, found.start()
    while (start := text.rfind(b"# ", 0, start)) >= 0:
        if mark := _MARK.match(text, start):
            if mark[2] == main:
                return True
            if b'R"' in text[start : found.start()]:
                raise ValueError(
                    "a header has #pragma once after a raw string, and it may be a part of that string"
                )
            return False
    return True


def _line_before(found: re.Match[bytes]) -> bytes:
    """Return the text before a match in its line."""
    return found.string[found.string.rfind(b"\n", 0, found.start()) + 1 : found.start()]


def _end_of_head(text: bytes) -> int:
    """Return the offset of the source itself: of the second marker with its name, which has no flags."""
    first = _MARK.match(text)
    if first is None:
        return 0
    mark = re.compile(rb'^# \d+ "' + re.escape(first[2]) + rb'"[ ]*$', re.MULTILINE)
    found = mark.search(text, first.end())
    return found.start() if found else 0


def _head_lines(head: bytes) -> list[bytes]:
    """Return the lines before the source, without macros that belong to no file."""
    lines: list[bytes] = []
    waiting = b""  # a marker that is only needed if an included file follows
    in_file = True
    for line in head.splitlines(keepends=True):
        mark = _MARK.match(line.lstrip(b" \t"))
        if mark is None:
            lines += [line] if in_file else []
        elif mark[2].endswith(b"//"):
            continue
        elif mark[2] in _NO_FILES and not mark[3].strip():
            waiting, in_file = line, False
        else:
            lines += [waiting, line]
            waiting, in_file = b"", mark[2] not in _NO_FILES
    return lines
