"""`pshadow on` and `off`, in place, killed at each of their steps: the original programs come back.

strace(1) kills the command before its n-th call of a kind that changes a file, for each kind and each n. This covers
each state in which a folder can be left. The commands before and after the kill run in the test's own process.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.programs import program
from tests.support.shadowing import (
    LIMIT,
    Recorder,
    clean_environment,
    make_program,
    output_of,
    pshadow_here,
    tree,
)

CHANGES = (
    "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "mkdir",
    "mkdirat", "rmdir", "fsync", "fchmod", "fchmodat", "chmod", "chown", "lchown", "fchownat", "write", "flock",
    "utimensat",
)  # fmt: skip
NAMES = "tool", "link"


def steps(log: Path) -> Counter[str]:
    """Return the number of changes of each kind."""
    return Counter(re.findall(r"^(?:\d+ +)?(\w+)\(", log.read_text(), re.MULTILINE))


def traced(
    log: Path, words: list[str], inject: list[str], environment: Mapping[str, str] | None = None
) -> int:
    """Run pshadow under strace; return its exit status."""
    options = ["-f", "-q", "-o", str(log), f"--trace={','.join(CHANGES)}", *inject]
    command = [
        program("strace", "strace"),
        *options,
        sys.executable,
        "-B",
        "-m",
        "pconnect.shadow.cli",
        *words,
    ]
    return subprocess.run(
        command, check=False, capture_output=True, timeout=LIMIT, env=clean_environment(environment)
    ).returncode


class Place:
    """A folder with a program that other users must not read, and a link to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "programs"
        self.prun = Recorder(folder)
        path = make_program(self.folder / "tool")
        os.utime(path, ns=(1, 1_234_567_890_123_456_789))
        os.setxattr(path, "user.origin", b"a package")
        (self.folder / "link").symlink_to("tool")
        if os.geteuid() == 0:
            os.chown(path, 1, 7)
            path.chmod(0o4750)
        self.before = tree(self.folder)
        self.on = ["on", "--in-place", "--prun", str(self.prun.path), "--dir", str(self.folder), *NAMES]
        self.off = ["off", "--in-place", "--dir", str(self.folder)]

    def check_after_kill(self, next_words: list[str]) -> None:
        """Check that each program still runs, and that `off`, immediately or after another command, restores all."""
        for name in NAMES:
            assert output_of([self.folder / name, "a"], {"PSERVER_SHADOW": "test"}) == [b"real", b"a"]
        for words in (next_words, self.off):
            status, _, errors = pshadow_here(*words)
            assert (status, errors) == (0, "")
        assert tree(self.folder) == self.before


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("killed", ["on", "off"])
def test_after_a_kill_at_any_step_all_comes_back(tmp_path: Path, killed: str) -> None:
    place = Place(tmp_path)
    words, log = getattr(place, killed), tmp_path / "log"
    if killed == "off":
        assert pshadow_here(*place.on)[0] == 0
    assert traced(log, words, []) == 0
    found = steps(log)
    assert found.total() > (30 if killed == "on" else 10)
    assert pshadow_here(*place.off)[0] == 0
    assert tree(place.folder) == place.before
    states = set()
    for kind, count in found.items():
        for number in range(1, count + 1):
            if killed == "off":
                assert pshadow_here(*place.on)[0] == 0
            status = traced(log, words, [f"--inject={kind}:signal=KILL:when={number}"])
            assert status == -9, f"{kind} {number}"
            states.add(frozenset(shape(place.folder).items()))
            place.check_after_kill(place.off if number % 2 else place.on)
    assert len(states) >= (15 if killed == "on" else 8)


def shape(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """Return a folder's contents, without parts that differ from call to call."""
    kept: dict[bytes, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        kept[os.fsencode(path.relative_to(folder))] = facts.st_mode, facts.st_size, facts.st_nlink
    return kept


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("killed", ["on", "off"])
def test_after_a_kill_at_any_step_a_folder_of_stand_ins_is_whole(tmp_path: Path, killed: str) -> None:
    make_program(tmp_path / "bin" / "tool")
    folder, log = tmp_path / "stand-ins", tmp_path / "log"
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    on = ["on", "--prun", str(Recorder(tmp_path).path), "--dir", str(folder), "tool", "cat"]
    words = {"on": on, "off": ["off", "--dir", str(folder)]}

    def prepare() -> None:
        assert pshadow_here(*words["on" if killed == "off" else "off"], environment=environment)[0] == 0

    prepare()
    assert traced(log, words[killed], [], environment) == 0
    found = steps(log)
    for kind, count in found.items():
        for number in range(1, count + 1):
            prepare()
            inject = [f"--inject={kind}:signal=KILL:when={number}"]
            assert traced(log, words[killed], inject, environment) == -9, f"{kind} {number}"
            for path in folder.glob("[!.]*"):  # existing files are complete
                assert output_of([path, "/dev/null"], environment | {"PSERVER_SHADOW": "x"}) in (
                    [b"real", b"/dev/null"],
                    [],
                )
            assert pshadow_here(*words["off"], environment=environment)[0] == 0
            assert not folder.exists() or list(folder.iterdir()) == []
    assert found.total() >= (10 if killed == "on" else 2)
