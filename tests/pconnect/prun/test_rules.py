"""Rules of `prun`: matching, precedence, and the positions of errors."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pconnect.errors import ConfigurationError
from pconnect.prun.rules import Rules, read_rules, stamp_of
from pconnect.prun.settings import Settings, rules_file

Write = Callable[[str], Rules]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Rules:
        path = tmp_path / "prun.toml"
        path.write_text(text)
        path.chmod(0o644)
        return read_rules(path)

    return written


def test_without_a_file_there_are_the_rules_that_are_built_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    rules = read_rules()
    assert rules.path == rules_file() and rules.stamp is None
    assert rules.explain([b"sort", b"-c"]).settings == Settings()
    assert rules.explain([b"gcc"]).sources == dict.fromkeys(["compiler", "or_here", "repeatable"], "built in")


@pytest.mark.parametrize(
    ("program", "is_compiler"),
    [
        ("gcc", True), ("g++", True), ("cc", True), ("c++", True), ("clang", True), ("clang++", True),
        ("gcc-13", True), ("/usr/bin/clang++-15", True), ("x86_64-linux-gnu-gcc-12", True), ("./gcc-4.9.1", True),
        ("arm-none-eabi-g++", True), ("gcc-ar", False), ("clang-format", False), ("cpp", False), ("gccx", False),
        ("distcc", False), ("gcc/x", False), ("clang-format-14", False), ("gcc-13-x", False),
    ],
)  # fmt: skip
def test_compilers_are_known_by_their_names(program: str, is_compiler: bool, tmp_path: Path) -> None:
    assert read_rules(tmp_path / "none").explain([program.encode()]).settings.compiler is is_compiler


TEXT = """
or_local = true
nice = 5
env = ["LANG"]

[map_dir]
"/home/me" = "/srv/me"

[[rule]]
match = "*"
time_limit = 60

[[rule]]
match = ["gcc", "*-g++"]
args = "-c"
nice = 10
on = ["alpha", 2]
repeatable = false

[[rule]]
match = ["/opt/*/gcc", "ld*"]
args = ["-o", "*/private*"]
where = "local"
"""


def test_the_last_rule_that_matches_and_has_a_setting_counts(write: Write) -> None:
    rules = write(TEXT)
    top = Settings(or_here=True, nice=5, env=("LANG",), map_dir=(("/home/me", "/srv/me"),), time_limit=60)
    explained = rules.explain([b"sort"])
    assert explained.settings == top
    assert explained.sources == {
        "or_here": "prun.toml, line 2", "nice": "prun.toml, line 3", "env": "prun.toml, line 4",
        "map_dir": "prun.toml, line 6", "time_limit": "prun.toml, line 11",
    }  # fmt: skip
    explained = rules.explain([b"/usr/bin/gcc", b"-O2", b"-c", b"x.c"])
    assert explained.settings.nice == 10 and explained.settings.on == ("alpha", "2")
    assert explained.settings.compiler and not explained.settings.repeatable
    assert explained.sources["repeatable"] == "prun.toml, line 18"
    assert explained.sources["compiler"] == "built in"


@pytest.mark.parametrize(
    ("words", "nice", "here"),
    [
        (["gcc", "x.c"], 5, False),  # no -c
        (["gcc", "-cx"], 5, False),
        (["-c", "-c"], 5, False),
        (["arm-g++", "-c"], 10, False),
        (["g++", "-c"], 5, False),
        (["ld", "-o", "/x/private/y"], 5, True),
        (["ld", "-o"], 5, False),  # each pattern must match an argument
        (["/opt/a/gcc", "-o", "b/private"], 5, True),
        (["gcc", "-o", "b/private"], 5, False),  # a pattern with a slash matches paths
        (["/bin/LD", "-o", "b/private"], 5, False),
    ],
)
def test_names_paths_and_arguments_are_matched(write: Write, words: list[str], nice: int, here: bool) -> None:
    settings = write(TEXT).explain([word.encode() for word in words]).settings
    assert (settings.nice, settings.here) == (nice, here)


def test_arguments_are_any_bytes(write: Write) -> None:
    rules = write("[[rule]]\nmatch = 'x'\nargs = 'a*'\nnice = 1")
    assert rules.explain([b"\xffdir/x", b"\xff", b"a\xff\n\xfe"]).settings.nice == 1
    assert rules.explain([b"x", b"\xff"]).settings.nice == 0


def test_a_home_in_a_pattern_is_ours(write: Write) -> None:
    rules = write("[[rule]]\nmatch = '~/bin/*'\nnice = 1")
    assert rules.explain([str(Path.home() / "bin/x").encode()]).settings.nice == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nnicee = 1", r"prun.toml, line 2: 'nicee' is not a setting of prun \(did you mean nice\?\)"),
        ("[[rule]]\nmatch='a'\n\nor_locl = true", r"line 4: 'or_locl' is not .*did you mean or_local\?"),
        ("[[rules]]\nmatch='a'", r"line 1: 'rules' is not .*did you mean rule\?"),
        ("[rule]\nmatch='a'", r"line 1: rules are an array of tables; write \[\[rule\]\]"),
        ("rule = [1]", "line 1: rules are an array of tables"),
        ("match = 'a'", r"line 1: 'match' is not a setting of prun; it belongs below a \[\[rule\]\]"),
        ("[[rule]]\nmatch='a'\n[[rule]]\nnice=1", 'line 3: a rule needs match, such as match = "gcc"'),
        ("[[rule]]\nmatch=''", "line 2: match must be a pattern or a list of patterns, not ''"),
        ("[[rule]]\nmatch=[]", "line 2: match must be a pattern"),
        ("[[rule]]\nmatch='a'\nargs=[1]", r"line 3: args must be a pattern or a list of patterns, not \[1\]"),
        ("[[rule]]\nmatch='a'\nnice=-1", "line 3: nice must be a non-negative integer"),
        ("[[rule]]\nmatch='a'\n[rule.map_dir]\n'/a'=1", "line 3: map_dir must be a table of folders"),
        ("accept = 'memory>8'", "line 1: accept 'memory>8', column 8: '8' has no unit"),
        ("a = = 1", "prun.toml: .*line 1"),
    ],
)
def test_errors_have_file_line_and_key(write: Write, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        write(text)


def test_a_file_that_others_can_write_is_refused(write: Write, tmp_path: Path) -> None:
    write("")
    (tmp_path / "prun.toml").chmod(0o666)
    with pytest.raises(ConfigurationError, match=r"prun.toml is writable by others .*chmod go-w"):
        read_rules(tmp_path / "prun.toml")


def test_a_changed_file_has_another_stamp(write: Write) -> None:
    first = write("nice = 1")
    assert first.stamp == stamp_of(first.path) is not None
    second = write("nice = 10")
    assert second.stamp not in {None, first.stamp}
    first.path.unlink()
    assert stamp_of(first.path) is None
