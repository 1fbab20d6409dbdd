"""The folder and the variables of a program on a server."""

from pathlib import Path

import pytest

from pconnect.prun.places import environment, folder_here, no_folder, there
from pconnect.prun.settings import Settings

PAIRS = (("/home/me/", "/srv/me"), ("/home/me/data", "/data/"), ("/home/me/data/", "/never"))


@pytest.mark.parametrize(
    ("cwd", "pairs", "folder"),
    [
        ("/a/b", (), "/a/b"),
        ("/a//b/./c/../d/", (), "/a/b/d"),
        ("//a", (), "/a"),
        ("/", (), "/"),
        ("/home/me", PAIRS, "/srv/me"),
        ("/home/me/", PAIRS, "/srv/me"),
        ("/home/me/x", PAIRS, "/srv/me/x"),
        ("/home/me2", PAIRS, "/home/me2"),
        ("/home", PAIRS, "/home"),
        ("/home/me/data", PAIRS, "/data"),
        ("/home/me/data/x", PAIRS, "/data/x"),
        ("/home/me/data/../x", PAIRS, "/srv/me/x"),
        ("/home/me/datax", PAIRS, "/srv/me/datax"),
        ("/a", (("/", "/root/of"),), "/root/of/a"),
        ("/", (("/", "/root/of"),), "/root/of"),
        ("/a/b", (("/a", "/"),), "/b"),
        ("/a", (("/a", "/"),), "/"),
        ("/a/b", (("/x/../a", "/y/../z"),), "/z/b"),
    ],
)
def test_the_longest_folder_of_the_map_counts(
    cwd: str, pairs: tuple[tuple[str, str], ...], folder: str
) -> None:
    assert there(cwd, Settings(map_dir=pairs)) == folder


@pytest.mark.parametrize(
    ("given", "folder"), [("/x/../y", "/y"), ("build", "/srv/me/a/build"), ("..", "/srv/me")]
)
def test_a_given_folder_goes_before_the_map(given: str, folder: str) -> None:
    assert there("/home/me/a", Settings(cwd=given, map_dir=PAIRS)) == folder


def test_the_name_without_links_counts_where_the_other_is_not_in_the_map() -> None:
    settings = Settings(map_dir=(("/disk/1", "/srv"),))
    assert there("/home/me", settings, "/disk/1/me") == "/srv/me"
    assert there("/disk/1/a", settings, "/disk/1/b") == "/srv/a"
    assert there("/home/me", settings, "/disk/2/me") == "/home/me"


def test_a_folder_has_the_name_that_the_user_sees(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    assert folder_here(str(real), str(link)) == str(link)
    for other in (None, "", "link", str(tmp_path), f"{link}/../real", str(tmp_path / "none")):
        assert folder_here(str(real), other) == str(real)


@pytest.mark.parametrize(
    ("settings", "begin"),
    [
        (Settings(), "node 2 (beta) has no folder /a b, so the program was not run"),
        (Settings(cwd="/a b"), "node 2 (beta) has no folder /a b (from --cd '/a b'), so"),
    ],
)
def test_a_missing_folder_is_named_with_what_you_can_do(settings: Settings, begin: str) -> None:
    text = no_folder(2, "beta", "/a b", "/a b", settings)
    assert text.startswith(begin)
    for advice in ("--map-dir '/a b'=THERE", "--cd DIR", "--send FILE", "--fetch FILE", "--sync"):
        assert advice in text


def test_a_missing_folder_of_the_map_names_both() -> None:
    text = no_folder(1, "alpha", "/srv/me", "/home/me", Settings(map_dir=PAIRS))
    assert text.startswith("node 1 (alpha) has no folder /srv/me (map_dir of /home/me), so")


HERE = {
    b"HOME": b"/home/me", b"PATH": b"/bin", b"LANG": b"C", b"OMP_A": b"1", b"OMP_B": b"2", b"TERM": b"xterm",
    b"XDG_RUNTIME_DIR": b"/run/1", b"PCONNECT_PASSWORD": b"secret", b"MAKEFLAGS": b"-j", b"\xff": b"\xfe",
    b"TMUX_PANE": b"%1", b"EMPTY": b"",
}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (Settings(), set()),
        (Settings(env=("LANG", "NOT_SET", "OMP_*")), {b"LANG", b"OMP_A", b"OMP_B"}),
        (Settings(env=("EMPTY",)), {b"EMPTY"}),
        (Settings(env_all=True), {b"LANG", b"OMP_A", b"OMP_B", b"\xff", b"EMPTY"}),
        (Settings(env_all=True, env=("PATH",)), {b"LANG", b"OMP_A", b"OMP_B", b"\xff", b"EMPTY", b"PATH"}),
        (Settings(terminal=True), {b"TERM"}),
        (Settings(env=("\udcff",)), {b"\xff"}),
    ],
)
def test_variables_are_those_that_are_asked_for(settings: Settings, names: set[bytes]) -> None:
    assert environment(settings, HERE) == {name: HERE[name] for name in names}


def test_values_can_be_given_and_the_last_counts() -> None:
    settings = Settings(env=("LANG", "LANG=a=b\n", "NEW=", "OMP_A=\udcff", "OMP_*"))
    assert environment(settings, HERE) == {
        b"LANG": b"a=b\n", b"NEW": b"", b"OMP_A": b"1", b"OMP_B": b"2",
    }  # fmt: skip
