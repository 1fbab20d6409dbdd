"""What a node reports to the watch of its session."""

import os
from pathlib import Path

import pytest

from pserver.config.limit_options import SessionLimits
from pserver.limits.node_watch import NodeWatch
from pserver.limits.session_watch import SessionWatch


def nothing() -> bool:
    return False


def test_it_looks_only_at_what_is_limited(tmp_path: Path) -> None:
    def never() -> tuple[object, bool, int]:
        raise AssertionError("this must not be called")

    node = NodeWatch(SessionWatch(SessionLimits(time=10.0), 0.0), str(tmp_path), never, nothing, 0.0)
    assert node.look(1.0) == ""
    assert "--session-time 10" in node.look(10.0)


def test_it_ends_with_what_another_node_uses(tmp_path: Path) -> None:
    session = SessionWatch(SessionLimits(output=10), 0.0)
    printed = [0, 0]

    def node(place: int) -> NodeWatch:
        return NodeWatch(session, str(tmp_path), lambda: (0, False, printed[place]), nothing, 0.0)

    nodes = [node(0), node(1)]
    assert [node.look(1.0) for node in nodes] == ["", ""]
    printed[:] = 6, 5
    assert [bool(node.look(2.0)) for node in nodes] == [False, True]
    assert nodes[0].look(2.0)


def test_it_measures_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(2**17))
    session = SessionWatch(SessionLimits(disk=2**16), 0.0)
    node = NodeWatch(session, str(tmp_path), lambda: (0, False, 0), nothing, 0.0)
    assert node.time_left(0.0) == 0.0
    assert "--session-disk 64k" in node.look(0.0)
    assert node.time_left(0.0) == 1.0


@pytest.mark.parametrize("is_program", [True, False])
def test_it_tells_what_runs(is_program: bool, tmp_path: Path) -> None:
    session = SessionWatch(SessionLimits(idle_timeout=10.0), 0.0)
    runs = [True]
    node = NodeWatch(
        session,
        str(tmp_path),
        lambda: ("seen", runs[0] and not is_program, 0),
        lambda: runs[0] and is_program,
        0.0,
    )
    assert node.look(30.0) == ""
    runs[0] = False
    assert node.look(39.0) == ""
    assert "--idle-timeout 10" in node.look(40.0)
