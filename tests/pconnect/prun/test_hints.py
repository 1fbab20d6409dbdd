import pytest

from pconnect.prun.hints import hint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ls -l", "there is no program 'ls -l'; give the words apart: prun ls -l"),
        ("ulimit", "ulimit belongs to a shell: prun sh -c 'ulimit ...'"),
        (".", ". belongs to a shell: prun sh -c '. ...'"),
        ("A=1", "A=1 is no program; variables are given with --env A=1"),
        ("A=b c", "A=b c is no program; variables are given with --env 'A=b c'"),
        ("gcc-99", ""),
        ("./a b", ""),
        ("", ""),
        (" ", ""),
    ],
)
def test_it_says_what_was_probably_meant(name: str, text: str) -> None:
    assert hint(name) == text
