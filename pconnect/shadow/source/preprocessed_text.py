"""Preprocessed source on its way to another machine: what must not go, and what is taken out of it."""

import posixpath
import re
from collections.abc import Mapping

from pconnect.shadow.compiler_words import Away, Family, Form

# A mark of a line: its number, the name of its file, and flags, of which 1 begins and 2 ends an included file.
_MARK = re.compile(rb'# (\d+) "((?:[^"\\\n]|\\.)*)"([ \d]*)')
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_NO_FILES = b"<built-in>", b"<command-line>", b"<command line>"
# Patterns that begin with fixed bytes are found several times faster than those that begin a line.
_PRAGMA_ONCE = re.compile(rb"pragma[ \t]+once\b[^\n]*")
_DIRECTIVE = re.compile(rb"[ \t]*#[ \t]*")
# What means this machine's clock or files, and would mean the other's; also the name of the source, which may be
# standard input there.
_TIED = b"__DATE__", b"__TIME__", b"__TIMESTAMP__", b"__BASE_FILE__", b".incbin", b".include "
_TIED_DIRECTIVE = re.compile(
    rb"^[ \t]*#[ \t]*(?:embed|pragma[ \t]+GCC[ \t]+(?:dependency|pch_preprocess))\b", re.MULTILINE
)
_COUNTED = re.compile(rb"^[ \t]*#[ \t]*(?:el)?if\b.*\b__COUNTER__", re.MULTILINE)
_IN_TIED_DIRECTIVES = b"embed", b"dependency", b"pch_preprocess"
# The same as `_MARK`, anywhere. Blanks may precede it: those before a directive that is left out. Clang ends it as the
# source's lines end.
_ANY_MARK = re.compile(rb'# \d+ "((?:[^"\\\n]|\\.)*)"((?: [1-4])*)(?=\r?\n)')
#: Options with which an object has names of files that no map replaces.
_NAMES_AS_THEY_ARE = "-fsanitize", "-flto"
_OUTER = re.compile(rb"/|(?:\.\./)+")


def tied_to_this_machine(text: bytes, what: str = "the source") -> str:
    """Return why preprocessed source, or `what` else is given, must be compiled here; empty if it need not be."""
    found = next((word for word in _TIED if word in text), None)
    if found is None and any(word in text for word in _IN_TIED_DIRECTIVES):
        directive = _TIED_DIRECTIVE.search(text)
        found = directive and directive[0].strip()
    if found:
        return f"{what} has {found.decode('ascii')}, which depends on the machine"
    return ""


def user_files(text: bytes) -> set[bytes]:
    """Return the names, as they are in the text, of files that are not the system's."""
    users: set[bytes] = set()
    system: set[bytes] = set()
    for mark in _ANY_MARK.finditer(text):
        if not _line_before(mark).strip():
            (system if b" 3" in mark[2] else users).add(mark[1])
    return {name for name in users - system if name and name[:1] != b"<" and name[-2:] != b"//"}


def all_files(text: bytes) -> set[str]:
    """Return the names of all files that are in the text."""
    names = {_name(raw) for raw, _ in set(_ANY_MARK.findall(text))}
    return {name for name in names if name and name[0] != "<" and not name.endswith("//")}


def put_inside(text: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the text with other names for files outside of the folder, such as ``.outer1/x.h`` for ``/x.h``.

    With its old name a file cannot be put where GCC looks for it on another machine.

    Returns
    -------
    text, beginnings
        What is to be compiled; the old beginnings of names by the new ones.
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
    """Return options with which names are in the object as they were before `put_inside` changed their beginnings.

    They follow those of the command. GCC reads maps of macros before all others, so ours must be of the same kinds.

    Raises
    ------
    ValueError
        There are none, because of other options.
    """
    if away.family is Family.CLANG or any(word.startswith(_NAMES_AS_THEY_ARE) for word in away.options):
        raise ValueError(f"{away.compiler} has options with which names are recorded as they are")
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
    """Return the names of files of which GCC shows lines, if it can, when it reports something about them.

    Only names inside the folder are returned.
    """
    inner = {posixpath.normpath(_name(raw)) for raw in user_files(text)}
    return sorted(
        name for name in inner if name != "." and not name.startswith(("/", "../")) and name != ".."
    )


def _name(raw: bytes) -> str:
    return _ESCAPE.sub(_unescaped, raw).decode("utf-8", "surrogateescape")


def directory_of(text: bytes) -> str:
    """Return the folder that GCC names in preprocessed source for debugging information; empty if it names none."""
    marks = [_MARK.match(line) for line in text.split(b"\n", 2)[:2]]
    if len(marks) < 2 or marks[1] is None or not marks[1][2].endswith(b"//"):
        return ""
    return _name(marks[1][2]).removesuffix("//") or "/"


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8)]) if len(found[1]) == 3 else found[1]


def for_compiler(text: bytes, form: Form) -> bytes:
    """Return what is to be compiled.

    The compiler there defines what is built in, and what the command's words define, by itself. It reads all as one
    file, in which ``#pragma once`` would be a mistake.

    Raises
    ------
    ValueError
        It cannot be said what is to be left out; or conditions, which were decided here, count something.
    """
    if form is Form.REWRITTEN and b"__COUNTER__" in text and _COUNTED.search(text):
        raise ValueError("a condition has __COUNTER__, and conditions were decided here")
    if form in (Form.REWRITTEN, Form.FILES):
        return text
    if form is Form.SOURCE:
        end = _end_of_head(text)
        text = b"".join(_head_lines(text[:end])) + text[end:]
    main = _MARK.match(text)
    name = main[2] if main else b""
    return _PRAGMA_ONCE.sub(lambda found: found[0] if _is_kept(found, name) else b"", text)


def _is_kept(found: re.Match[bytes], main: bytes) -> bool:
    """Return whether what looks like ``#pragma once`` is no directive, or one of the source itself, which stays."""
    if not _DIRECTIVE.fullmatch(_line_before(found)):
        return True
    text, start = found.string, found.start()
    while (start := text.rfind(b"# ", 0, start)) >= 0:
        if mark := _MARK.match(text, start):
            if mark[2] == main:
                return True
            if b'R"' in text[start : found.start()]:
                raise ValueError(
                    "a header has #pragma once behind a raw string, and it may be a part of that"
                )
            return False
    return True


def _line_before(found: re.Match[bytes]) -> bytes:
    """Return what is before a match in its line."""
    return found.string[found.string.rfind(b"\n", 0, found.start()) + 1 : found.start()]


def _end_of_head(text: bytes) -> int:
    """Return where the source itself begins: at the second mark that has its name and begins nothing."""
    first = _MARK.match(text)
    if first is None:
        return 0
    mark = re.compile(rb'^# \d+ "' + re.escape(first[2]) + rb'"[ ]*$', re.MULTILINE)
    found = mark.search(text, first.end())
    return found.start() if found else 0


def _head_lines(head: bytes) -> list[bytes]:
    """Return the lines before the source without the macros that belong to no file."""
    lines: list[bytes] = []
    waiting = b""  # a mark that is only needed if a file is included there
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
