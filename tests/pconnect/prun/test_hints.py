import pytest

from pconnect.prun.hints import hint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ls -l", "there is no program 'ls -l'; write separate words: prun ls -l"),
        ("ulimit", "ulimit is a shell command; run: prun sh -c 'ulimit ...'"),
        (".", ". is a shell command; run: prun sh -c '. ...'"),
        ("A=1", "A=1 is not a program; set variables with --env A=1"),
        ("A=b c", "A=b c is not a program; set variables with --env 'A=b c'"),
        ("gcc-99", ""),
        ("./a b", ""),
        ("", ""),
        (" ", ""),
    ],
)
def test_it_says_what_was_probably_meant(name: str, text: str) -> None:
    assert hint(name) == text
