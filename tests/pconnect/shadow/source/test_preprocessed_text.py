"""Text that is removed from preprocessed source, and text that must be compiled here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.shadow.compiler_words import Away, Family, Form, decide
from pconnect.shadow.source.preprocessed_text import (
    directory_of,
    files_shown,
    for_compiler,
    put_inside,
    restoring,
    tied_to_this_machine,
)

TEXT = b"""# 0 "src/foo.c"
# 1 "/home/a//"
# 0 "<built-in>"
#define __STDC__ 1
# 0 "<built-in>"
#define __x86_64 1
# 0 "<command-line>"
#define X 1
# 0 "<command-line>"
# 1 "/usr/include/stdc-predef.h" 1 3 4
#define __STDC_IEC_559__ 1
# 0 "<command-line>" 2
# 1 "./inc/first.h" 1
  # pragma once
#define FIRST 1
# 0 "<command-line>" 2
# 1 "src/foo.c"
#define OWN 1
# 1 "../other.h" 1
# 1 "/abs/x.h" 1
# 2 "../other.h" 2
# 2 "src/foo.c" 2
# 1 "inc/sub.h" 1
#pragma once
# 3 "src/foo.c" 2
int x;
"""

LEFT = b"""# 0 "src/foo.c"
# 0 "<command-line>"
# 1 "/usr/include/stdc-predef.h" 1 3 4
#define __STDC_IEC_559__ 1
# 0 "<command-line>" 2
# 1 "./inc/first.h" 1
  #\x20
#define FIRST 1
# 0 "<command-line>" 2
# 1 "src/foo.c"
#define OWN 1
# 1 "../other.h" 1
# 1 "/abs/x.h" 1
# 2 "../other.h" 2
# 2 "src/foo.c" 2
# 1 "inc/sub.h" 1
#
# 3 "src/foo.c" 2
int x;
"""


def test_the_compiler_defines_by_itself_what_belongs_to_no_file() -> None:
    assert for_compiler(TEXT, Form.SOURCE) == LEFT


def test_preprocessed_source_keeps_all_but_pragma_once() -> None:
    text = for_compiler(TEXT, Form.PREPROCESSED)
    assert text == TEXT.replace(b"  # pragma once", b"  # ").replace(b"#pragma once", b"#")


@pytest.mark.parametrize("form", [Form.SOURCE, Form.PREPROCESSED])
def test_once_in_the_source_itself_or_in_its_strings_stays(form: Form) -> None:
    text = b"""# 0 "a.c"
# 1 "a.c"
#pragma once
# 1 "b.h" 1
# pragma omp x
#pragma once
# 2 "a.c" 2
char *x = "#pragma once", *y = R"(
#pragma once
)";
"""
    assert for_compiler(text, form) == text.replace(b"omp x\n#pragma once", b"omp x\n#")
    assert for_compiler(b"#pragma once\n", form) == b"#pragma once\n"


def test_once_in_a_string_of_a_header_cannot_be_told_from_one_that_is_meant() -> None:
    text = b'# 1 "a.c"\n# 1 "b.h" 1\n#pragma once\nchar *x = R"(\n#pragma once\n)";\n# 2 "a.c" 2\n'
    with pytest.raises(ValueError, match="raw string"):
        for_compiler(text, Form.PREPROCESSED)


def test_what_clang_rewrites_stays_as_it_is() -> None:
    assert for_compiler(TEXT, Form.REWRITTEN) == TEXT
    counts = b"#define NAME x##__COUNTER__\n"
    assert for_compiler(counts, Form.REWRITTEN) == counts
    with pytest.raises(ValueError, match="__COUNTER__"):
        for_compiler(b"#if defined(X) && __COUNTER__ + 1 == 1\n", Form.REWRITTEN)


def test_the_folder_is_what_the_second_mark_names() -> None:
    assert directory_of(TEXT) == "/home/a"
    assert directory_of(TEXT.replace(b"/home/a//", rb"/a\"b\\c\344//")) == '/a"b\\c\udce4'
    assert directory_of(TEXT.replace(b"/home/a//", b"///")) == "/"
    assert directory_of(TEXT.replace(b'# 1 "/home/a//"\n', b"")) == ""
    assert directory_of(b"") == ""


def test_files_inside_the_folder_can_be_shown_but_no_others() -> None:
    assert files_shown(TEXT) == ["inc/first.h", "inc/sub.h", "src/foo.c"]
    assert files_shown(b'# 1 "sys.h" 1 3 4\n# 1 "a/../../b.h"\n# 1 ""\n x # 1 "y"\n') == []


@pytest.mark.parametrize(
    "text",
    [
        b"const char *x = __DATE__;",
        b"a __TIME__ b",
        b"__TIMESTAMP__",
        b"__BASE_FILE__",
        b'asm(".incbin \\"x\\"");',
        b'asm(".include \\"x\\"");',
        b"int x;\n  # embed <x>",
        b'int x;\n#pragma GCC dependency "x"',
        b'# pragma GCC pch_preprocess "x"',
    ],
)
def test_source_that_depends_on_the_machine_is_found(text: bytes) -> None:
    assert "depends on the machine" in tied_to_this_machine(text)


@pytest.mark.parametrize(
    "text", [TEXT, b"", b"__DATE_ TIME__ incbin", b"#pragma GCC poison x", b"embed dependency"]
)
def test_other_source_does_not(text: bytes) -> None:
    assert tied_to_this_machine(text) == ""


def test_files_of_other_folders_get_names_inside() -> None:
    text, beginnings = put_inside(TEXT + b'# 1 "../../up.h"\n')
    assert beginnings == {".outer1/": "/", ".outer1up/": "../", ".outer2up/": "../../"}
    assert b'# 1 ".outer1/abs/x.h" 1\n# 2 ".outer1up/other.h" 2\n' in text
    assert b'# 1 "/usr/include/stdc-predef.h" 1 3 4\n' in text and b'# 1 "/home/a//"\n' in text
    assert ".outer1/abs/x.h" in files_shown(text) and ".outer2up/up.h" in files_shown(text)


def test_marks_may_follow_blanks_but_nothing_else() -> None:
    text = b'# 0 "/a.c"\n# 1 "/a.c"\n  # 9 "/a.c"\n "x # 9 "/a.c"\n'
    assert put_inside(text)[0] == text.replace(b'# 0 "/', b'# 0 ".outer1/').replace(
        b'\n# 1 "/', b'\n# 1 ".outer1/'
    ).replace(b'  # 9 "/', b'  # 9 ".outer1/')


def test_a_file_that_becomes_the_systems_in_the_middle_keeps_its_name() -> None:
    text = b'# 1 "/x.h" 1\n# 5 "/x.h" 3\n'
    assert put_inside(text) == (text, {})


def away(line: str) -> Away:
    decision = decide(line.split(), Family.CLANG if line.startswith("clang") else Family.GCC)
    assert isinstance(decision, Away)
    return decision


def test_maps_of_the_command_are_said_once_more_for_names_inside() -> None:
    command = away("gcc -c f.c -ffile-prefix-map=/home/a=. -fmacro-prefix-map=rel=x -fdebug-prefix-map=/=y")
    assert restoring(command, {".outer1/": "/"}) == [
        "-fmacro-prefix-map=.outer1/=/",
        "-fdebug-prefix-map=.outer1/=/",
        "-ffile-prefix-map=.outer1/home/a=.",
        "-fdebug-prefix-map=.outer1/=y",
    ]
    assert restoring(command, {}) == []


@pytest.mark.parametrize(
    "line",
    [
        "clang -c f.c",
        "gcc -flto -c f.c",
        "gcc -fsanitize=undefined -c f.c",
        "gcc -c f.c -ffile-prefix-map=..=x",
    ],
)
def test_some_commands_record_names_as_they_are(line: str) -> None:
    with pytest.raises(ValueError, match=r"without prefix maps|replaces more than"):
        restoring(away(line), {".outer1up/": "../"})


LINES = st.sampled_from([*TEXT.splitlines(keepends=True), b"\n", b'# 1 "broken\n', b"#\n"]) | st.binary()


@given(st.lists(LINES).map(b"".join), st.sampled_from(Form))
def test_any_text_is_understood(text: bytes, form: Form) -> None:
    assert isinstance(for_compiler(text, form), bytes)
    assert isinstance(directory_of(text), str)
    assert all(not name.startswith(("/", "../")) for name in files_shown(put_inside(text)[0]))
