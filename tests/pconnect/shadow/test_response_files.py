"""Response files follow GCC's rules."""

import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.shadow.response_files import MAX_FILES, expand, split
from tests.support.programs import program

TEXTS = {
    "-O2 -c foo.c": ["-O2", "-c", "foo.c"],
    "  -O2\n\t-DA=1\r\n": ["-O2", "-DA=1"],
    "'-DA=x y'": ["-DA=x y"],
    '"-DA=x y"': ["-DA=x y"],
    "\"a'b\" 'a\"b'": ["a'b", 'a"b'],
    "a\\ b a\\\\b \\'a \\\"b": ["a b", "a\\b", "'a", '"b'],
    "\"a\\\"b\" 'a\\'b'": ['a"b', "a'b"],
    "-DX='a'\"b\"c": ["-DX=abc"],
    "\"\" x ''": ["", "x", ""],
    "a\\\nb": ["a\nb"],
    "'unclosed x": ["unclosed x"],
    "": [],
    " \n": [],
    "ends\\": ["ends"],
    "x\v\fy": ["x", "y"],
    "x#y # z": ["x#y", "#", "z"],
}


@pytest.mark.parametrize("text", TEXTS)
def test_quotes_and_backslashes(text: str) -> None:
    assert split(text) == TEXTS[text]


def test_gcc_reads_the_same_words(tmp_path: Path) -> None:
    """A fake preprocessor records the words into which GCC splits a file."""
    gcc = program("gcc", "gcc")
    text = "-DA='x y' \"-DB=it's\" -DC=a\\ b\\\\\n-DD='a\\'b' -DE=\\\"\"q\"'r' '-DF=\"\"' -DG=a\\\nb\t-DH=\v-DI='open"
    (tmp_path / "cc1").write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done >seen\n')
    (tmp_path / "cc1").chmod(0o755)
    (tmp_path / "file").write_text(text)
    subprocess.run([gcc, f"-B{tmp_path}/", "-E", "-x", "c", os.devnull, "@file"], cwd=tmp_path, check=True)
    seen = (tmp_path / "seen").read_text().split("\0")
    macros = [f"-D{then}" for word, then in pairwise(seen) if word == "-D"]
    assert macros == split(text)
    assert len(macros) == 9


def test_files_are_expanded_in_place_and_may_name_others(tmp_path: Path) -> None:
    (tmp_path / "outer").write_text("-O2 @inner -c")
    (tmp_path / "inner").write_text("'-DX=a b'")
    words = expand(["gcc", "-g", "@outer", "foo.c"], str(tmp_path))
    assert words == ["gcc", "-g", "-O2", "-DX=a b", "-c", "foo.c"]


def test_what_cannot_be_read_is_a_word(tmp_path: Path) -> None:
    words = ["@gcc", "@none", "@", "@\0", "@."]
    (tmp_path / "gcc").write_text("-c")
    assert expand(words, str(tmp_path)) == words


def test_files_that_name_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "again").write_text("-c @again")
    with pytest.raises(ValueError, match=f"more than {MAX_FILES} response files.*such as @again"):
        expand(["gcc", "@again"], str(tmp_path))


def test_bytes_that_are_no_text_stay(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"-DX=\xff")
    assert os.fsencode(expand(["gcc", "@file"], str(tmp_path))[1]) == b"-DX=\xff"


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_words_that_are_quoted_come_back(words: list[str]) -> None:
    quoted = ['"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words]
    assert split(" ".join(quoted)) == words


@given(st.text())
def test_any_text_can_be_split(text: str) -> None:
    assert all(isinstance(word, str) for word in split(text))
