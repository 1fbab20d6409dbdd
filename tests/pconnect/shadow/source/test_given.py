"""The input for another machine. `test_compile_step` runs compilers on it."""

import json

from pconnect.shadow.compiler_words import Away, Family, decide
from pconnect.shadow.source.clang_files import OVERLAY
from pconnect.shadow.source.given import as_files, as_one_text

TEXT = b'# 0 "/p/a.c"\n# 1 "/p/a.c"\n# 1 "sub/b.h" 1\n# 2 "/p/a.c" 2\nint x;\n'
HERE = {"/p/a.c": b"A", "sub/b.h": b"B"}


def away(line: str) -> Away:
    decision = decide(line.split(), Family.CLANG if line.startswith("clang") else Family.GCC)
    assert isinstance(decision, Away)
    return decision


def test_gcc_gets_text_and_the_files_that_it_shows() -> None:
    given = as_one_text(away("gcc -c /p/a.c"), "o", "", TEXT, HERE.get)
    assert given.source == TEXT.replace(b'"/p', b'".outer1/p')
    assert given.files == {".outer1/p/a.c": b"A", "sub/b.h": b"B"}
    assert "-fmacro-prefix-map=.outer1/=/" in given.words
    assert given.with_old_names(b".outer1/p/a.c:1: error\n") == b"/p/a.c:1: error\n"


def test_gcc_gets_source_as_a_file_for_debugging_information() -> None:
    given = as_one_text(away("gcc -g -c /p/a.c"), "o", "/p", TEXT, HERE.get)
    assert given.source == b""
    assert given.files[".source/a.c"].endswith(b"int x;\n")
    assert ".source/a.c" in given.words and "-fdebug-prefix-map=/proc/self/cwd=/p" in given.words


def test_names_stay_where_they_are_recorded() -> None:
    given = as_one_text(away("gcc -flto -c /p/a.c"), "o", "", TEXT, HERE.get)
    assert (given.source, given.files, given.beginnings) == (TEXT, {"sub/b.h": b"B"}, {})


def test_clang_gets_text_that_has_its_lines() -> None:
    given = as_one_text(away("clang -c /p/a.c"), "o", "", TEXT, HERE.get)
    assert (given.source, given.files) == (TEXT, {})


def test_clang_gets_files_for_debugging_information() -> None:
    shown = 'clang: warning: unused\n "/usr/lib/clang" "-cc1" "a.c"\n'
    given = as_files(away("clang -g -c /p/a.c"), shown, "/other", TEXT, HERE.get)
    assert given.words == ["clang", "-cc1", "a.c", "-ivfsoverlay", f"/proc/self/cwd/{OVERLAY}"]
    assert (given.source, given.warnings) == (b"", b"clang: warning: unused\n")
    roots = json.loads(given.files.pop(OVERLAY))["roots"]
    assert {root["name"]: given.files[root["external-contents"]] for root in roots} == {
        "/p/a.c": b"A",
        "/proc/self/cwd/sub/b.h": b"B",
    }
