"""Preprocessed source on its way to another machine: what must not go, and what is taken out of it."""

import posixpath
import re

from pconnect.shadow.compiler_words import Form

# A mark of a line: its number, the name of its file, and flags, of which 1 begins and 2 ends an included file.
_MARK = re.compile(rb'# (\d+) "((?:[^"\\\n]|\\.)*)"([ \d]*)')
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_NO_FILES = b"<built-in>", b"<command-line>", b"<command line>"
_PRAGMA_ONCE = re.compile(rb"^[ \t]*#[ \t]*pragma[ \t]+once\b[^\n]*", re.MULTILINE)
# What means this machine's clock or files, and would mean the other's; also the name of the source, which may be
# standard input there.
_TIED = re.compile(
    rb"\b__(?:DATE|TIME|TIMESTAMP|BASE_FILE)__\b|\.incbin\b"
    rb"|^[ \t]*#[ \t]*(?:embed\b|pragma[ \t]+GCC[ \t]+(?:dependency|pch_preprocess)\b)",
    re.MULTILINE,
)
# The same as `_MARK`, of files that are not the system's, which have the flag 3.
_USER_MARK = re.compile(rb'^# \d+ "((?:[^"\\\n]|\\.)*)"(?: [12])*$', re.MULTILINE)


def tied_to_this_machine(text: bytes) -> str:
    """Return why preprocessed source must be compiled here; empty if it need not be."""
    if found := _TIED.search(text):
        return f"the source has {found[0].decode('ascii', 'replace').strip()}, which depends on the machine"
    return ""


def files_shown(text: bytes) -> list[str]:
    """Return the names of files of which GCC shows lines, if it can, when it reports something about them.

    Only names inside the folder are returned: others cannot be put where GCC looks for them on another machine.
    """
    found = {_name(raw) for raw in set(_USER_MARK.findall(text))}
    inner = {posixpath.normpath(name) for name in found if name and not name.startswith(("/", "<"))}
    return sorted(name for name in inner if name != "." and not name.startswith("../"))


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
    """
    if form is Form.REWRITTEN:
        return text
    if form is Form.SOURCE:
        end = _end_of_head(text)
        text = b"".join(_head_lines(text[:end])) + text[end:]
    return _PRAGMA_ONCE.sub(b"", text)


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
        mark = _MARK.match(line)
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
