import pytest

from pconnect.errors import ConfigurationError
from pconnect.prun.options import HELP, parse
from pconnect.prun.settings import Explained, Settings


def test_options_end_where_the_program_begins() -> None:
    line = parse(["-n", "--on", "a", "--on", "b", "ls", "-n", "--on", "c"])
    assert line.words == ("ls", "-n", "--on", "c")
    assert line.given == {"stdin": False, "on": ("a", "b")}
    assert parse(["--", "--slots"]).words == ("--slots",)
    assert parse(["ls", "--", "-l"]).words == ("ls", "--", "-l")


def test_the_command_line_goes_before_the_rules_and_adds_to_their_lists() -> None:
    rules = Explained(Settings(nice=3, env=("A",), map_dir=(("/a", "/b"),)), {"nice": "prun.toml, line 1"})
    line = parse(["--nice", "5", "--env", "B=1", "--map-dir", "/a=/c", "x"])
    merged = line.over(rules)
    assert merged.settings == Settings(nice=5, env=("A", "B=1"), map_dir=(("/a", "/c"), ("/a", "/b")))
    assert merged.sources["nice"] == "the command line"


def test_a_stand_in_names_what_it_stands_for() -> None:
    line = parse(["--no-local", "--shadow", "/usr/bin/gcc", "-c", "a.c"])
    assert (line.is_shadow, line.words) == (True, ("/usr/bin/gcc", "-c", "a.c"))
    assert line.given == {"or_here": False}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "name a program"),
        (["-n"], "name a program"),
        (["--slots", "ls"], "--slots takes no program"),
        (["--nice", "-1", "x"], "by 0 to 19"),
        (["--nice=20", "x"], "by 0 to 19"),
        (["--time-limit", "0", "x"], "more than 0"),
        (["--time-limit", "nan", "x"], "more than 0"),
        (["--queue-timeout", "soon", "x"], "more than 0"),
        (["--map-dir", "/a", "x"], "write HERE=THERE"),
        (["--map-dir", "a=/b", "x"], "'a=/b': give absolute paths"),
        (["--map-dir", "/a=b", "x"], "'/a=b': give absolute paths"),
        (["--slots", "--on", "alpha"], "--slots takes no other options"),
        (["--which", "--nice", "3", "ls"], "--which takes no other options"),
        (["--o", "a", "x"], "unrecognized arguments"),
    ],
)
def test_what_cannot_be_done_is_refused(words: list[str], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        parse(words)


def test_the_help_fits_a_screen() -> None:
    lines = HELP.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
