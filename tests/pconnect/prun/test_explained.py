"""The text of ``prun --explain``."""

import pytest

from pconnect.prun.explained import WIDTH, explain
from pconnect.prun.placement import NodeFacts, NoNodeError, choose
from pconnect.prun.settings import Explained, Settings

NODES = [NodeFacts(1, "alpha", 4, running=2), NodeFacts(2, "beta", 4), NodeFacts(3, "gamma", 4)]
TOML = "prun.toml, line 2"


def test_each_setting_has_a_line_with_its_source() -> None:
    changes: dict[str, object] = {"on": ("alpha", "beta"), "map_dir": (("/home", "/srv"),)}
    changes |= {"env": ("LANG", "A=b c", "NOT_SET"), "time_limit": 60.0}
    explained = Explained().changed({"or_here": True, "compiler": True}, "built in").changed(changes, TOML)
    text = explain(
        [b"gcc", b"-c", b"a b.c"],
        explained,
        cwd="/home/me",
        here={b"LANG": b"C"},
        facts=NODES,
        choice=choose(NODES, explained.settings),
    )
    assert text.splitlines() == [
        "program        gcc -c 'a b.c'",
        "where          server                                                   default",
        "or_local       yes: on this machine if no server can run it             built in",
        "on             alpha, beta                                              prun.toml, line 2",
        "cwd            /srv/me                                                  prun.toml, line 2",
        "map_dir        /home is /srv there                                      prun.toml, line 2",
        "env            A, LANG                                                  prun.toml, line 2",
        "stdin          yes                                                      default",
        "time_limit     60 s                                                     prun.toml, line 2",
        "queue_timeout  no limit                                                 default",
        "repeatable     no: not run again if its server is lost                  default",
        "compiler       yes: from a stand-in, only compile steps run on servers  built in",
        "first          node 2 (beta): the least loaded: 0 of 4 slots taken",
        "then           node 1 (alpha)",
        "not            node 3 (gamma): not named by --on alpha, beta",
    ]


def test_of_a_program_that_runs_here_nothing_is_said_of_servers() -> None:
    explained = Explained(Settings(here=True, nice=3), {"here": TOML, "nice": TOML})
    text = explain([b"ld"], explained, cwd="/", facts=NODES, choice=choose(NODES, Settings()))
    assert text.splitlines() == ["program  ld", "where    local: on this machine  prun.toml, line 2"]


def test_where_the_map_does_not_lead_elsewhere_it_is_no_source() -> None:
    explained = Explained().changed({"map_dir": (("/home", "/srv"),)}, TOML)
    lines = explain([b"ls"], explained, cwd="/tmp").splitlines()
    assert [line.split()[1:] for line in lines if line.startswith("cwd")] == [["/tmp", "default"]]


@pytest.mark.parametrize(("key", "value"), [("sync", True), ("send", ("a",)), ("fetch", ("a",))])
def test_with_files_that_go_along_it_runs_in_a_private_folder(key: str, value: object) -> None:
    explained = (
        Explained().changed({"map_dir": (("/home", "/srv"),)}, "elsewhere").changed({key: value}, TOML)
    )
    for cwd, text in [
        ("", "a private folder on the server"),
        ("sub", "sub in a private folder on the server"),
    ]:
        lines = explain([b"ls"], explained.changed({"cwd": cwd}, "--cd") if cwd else explained, cwd="/home")
        (line,) = [line for line in lines.splitlines() if line.startswith("cwd")]
        assert line.split(None, 1)[1].split("  ")[0] == text
        assert line.endswith("--cd" if cwd else TOML)


def test_the_reasons_of_all_nodes_are_told() -> None:
    with pytest.raises(NoNodeError) as caught:
        choose(NODES, Settings(accept="slots>9"))
    lines = explain([b"ls"], Explained(), cwd="/tmp", facts=NODES, choice=str(caught.value)).splitlines()
    assert lines[-4].split(None, 1) == ["nodes", "no server may run the program:"]
    assert [line.strip() for line in lines[-3:]] == [f"{node.name}: slots is 4, not >9" for node in NODES]


def test_long_texts_go_on_in_their_column() -> None:
    explained = Explained().changed(
        {"env": tuple(f"NAME_{n}=x" for n in range(40)), "cwd": "/" + "x" * 300}, "s" * 60
    )
    text = explain([b"x" * 500, b"\xff\x1b[0m"], explained, cwd="/tmp", facts=NODES, choice="a " * 200)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "\x1b" not in text
    assert all(f"NAME_{n}" in text for n in range(40))
    assert text.count("x") >= 800


def test_every_setting_can_be_shown() -> None:
    settings = Settings(
        on=("a",), ordered=True, accept="cpus>1", needs=True, cwd="/x", map_dir=(("/a", "/b"),), send=("a",),
        fetch=("b",), sync=True, env=("A=b",), env_all=True, stdin=False, terminal=True, time_limit=1, queue_limit=2,
        nice=3, concurrency=4, repeatable=True, command="/bin/x", compiler=True, expand_native=True, or_here=True,
    )  # fmt: skip
    sources = dict.fromkeys(vars(settings), "somewhere")
    lines = explain([b"x"], Explained(settings, sources), cwd="/tmp").splitlines()
    assert len(lines) == 1 + len(vars(settings))
    assert all(line.endswith("somewhere") for line in lines[1:])
