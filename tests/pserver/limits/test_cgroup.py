"""Cgroups, with ordinary folders in place of the kernel's; tests/integration uses real ones."""

import os
from pathlib import Path

import pytest

from pserver.config.limit_options import SessionLimits
from pserver.limits import cgroup
from pserver.limits.cgroup import Cgroups, SessionCgroup, divide, enter, own_cgroup
from srp_tools.errors import ConfigurationError

MOUNTS = """22 1 8:1 / / rw - ext4 /dev/root rw
30 22 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 22 0:27 /outer /sys/fs/my\\040groups rw - cgroup2 cgroup2 rw
"""


def process(folder: Path, cgroup: str, mounts: str = MOUNTS) -> Path:
    (folder / "cgroup").write_text(f"4:memory:/elsewhere\n{cgroup}")
    (folder / "mountinfo").write_text(mounts)
    return folder


def hierarchy(folder: Path, controllers: str = "cpuset cpu io memory pids", processes: str = "") -> Path:
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.procs").write_text(processes or f"{os.getpid()}\n")
    return folder


def test_ones_own_cgroup_is_found_where_it_is_mounted(tmp_path: Path) -> None:
    assert own_cgroup(process(tmp_path, "0::/outer/a/b.service\n")) == Path("/sys/fs/my groups/a/b.service")


def test_the_child_in_which_the_server_is_already_counts_as_its_parent(tmp_path: Path) -> None:
    assert own_cgroup(process(tmp_path, "0::/outer/a/pserver-server\n")) == Path("/sys/fs/my groups/a")


@pytest.mark.parametrize(
    ("cgroup", "mounts", "said"),
    [
        ("", MOUNTS, "no cgroups of version 2"),
        ("0::/outer/a\n", "", "none are mounted|no cgroups of version 2 are mounted"),
        ("0::/other\n", MOUNTS, "are mounted"),
        ("0::/outer/../../x\n", MOUNTS, "are mounted"),
    ],
)
def test_one_that_cannot_be_seen_is_none(cgroup: str, mounts: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        own_cgroup(process(tmp_path, cgroup, mounts))


def test_the_server_moves_into_a_child(tmp_path: Path) -> None:
    assert divide(hierarchy(tmp_path)) == ("memory", "pids", "cpu")
    assert (tmp_path / "pserver-server" / "cgroup.procs").read_text() == str(os.getpid())
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_with_a_stranger_in_the_cgroup_nothing_is_moved(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has processes that are not this server's, such as 1$"):
        divide(hierarchy(tmp_path, processes=f"{os.getpid()}\n1\n"))
    assert not (tmp_path / "pserver-server").exists()


def test_a_process_that_comes_meanwhile_is_moved_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Path] = []

    def refuse_once(folder: Path, _: object) -> None:
        given.append(folder)
        if len(given) == 1:
            raise cgroup._BusyError

    monkeypatch.setattr(cgroup, "_give_controllers", refuse_once)
    assert divide(hierarchy(tmp_path)) == ("memory", "pids", "cpu")
    assert given == [tmp_path] * 2


def test_without_controllers_all_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has none of the controllers memory, pids, cpu"):
        divide(hierarchy(tmp_path, "cpuset hugetlb"))
    assert not (tmp_path / "pserver-server").exists()


def test_what_cannot_be_divided_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.subtree_control").mkdir()  # writing fails
    monkeypatch.setattr("pserver.limits.cgroup.own_cgroup", lambda: hierarchy(tmp_path))
    cgroups = Cgroups()
    assert cgroups.folder(SessionLimits(time=5.0)) == "" == cgroups.why_not  # not needed
    assert cgroups.folder(SessionLimits(memory=2**30)) == ""
    assert "Is a directory" in cgroups.why_not
    assert (tmp_path / "cgroup.procs").read_text() == str(os.getpid())  # it was moved back


def test_a_session_has_its_limits_in_a_child(tmp_path: Path) -> None:
    folder = tmp_path / f"pserver-session-{os.getpid()}"
    folder.mkdir()
    for name in ("memory.max", "memory.swap.max", "pids.max", "cpu.max"):
        (folder / name).touch()
    limits = SessionLimits(memory=2**30, processes=50, processors=1.5, cgroup=str(tmp_path))
    made = SessionCgroup(limits)
    assert (made.problem, made.limits.cgroup) == ("", str(folder))
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "memory.max": str(2**30),
        "memory.swap.max": "0",
        "pids.max": "50",
        "cpu.max": "150000 100000",
    }
    (folder / "cgroup.procs").touch()
    enter(str(folder))
    assert (folder / "cgroup.procs").read_text() == "0"


def test_one_that_is_gone_cannot_be_entered(tmp_path: Path) -> None:
    enter("")  # no cgroup
    with pytest.raises(FileNotFoundError) as caught:
        enter(str(tmp_path / "gone"))
    assert caught.value.strerror == f"cannot enter the cgroup {tmp_path}/gone: No such file or directory"


def test_a_controller_that_is_missing_is_left_out(tmp_path: Path) -> None:
    made = SessionCgroup(SessionLimits(processors=2.0, cgroup=str(tmp_path)))
    assert list(Path(made.limits.cgroup).iterdir()) == []
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_one_that_cannot_be_made_is_a_problem_and_no_error(tmp_path: Path) -> None:
    made = SessionCgroup(SessionLimits(memory=2**30, cgroup=str(tmp_path / "gone")))
    assert "No such file" in made.problem
    assert made.limits == SessionLimits(memory=2**30)


def test_each_kill_of_the_kernel_is_told_once(tmp_path: Path) -> None:
    made = SessionCgroup(SessionLimits(memory=2**30, cgroup=str(tmp_path)))
    events = Path(made.limits.cgroup, "memory.events")
    assert not made.take_kill()
    events.write_text("low 0\nhigh 0\nmax 30\noom 2\noom_kill 1\noom_group_kill 0\n")
    assert (made.take_kill(), made.take_kill()) == (True, False)
    events.write_text("oom_kill 3\n")
    assert (made.take_kill(), made.take_kill()) == (True, False)
    assert not SessionCgroup(SessionLimits()).take_kill()
