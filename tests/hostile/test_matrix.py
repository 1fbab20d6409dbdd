"""Each fault, in each kind of process, while a client does each kind of work: doc/reliability.md says what is seen.

Of the 210 cells, the tests take those below; with FAULT_MATRIX=all in the environment, which takes some minutes, all.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from srp_tools.credentials import Credentials
from tests.hostile.matrix.activities import ACTIVITIES
from tests.hostile.matrix.cast import KINDS
from tests.hostile.matrix.cell import Stage
from tests.hostile.matrix.faults import FAULTS
from tests.hostile.matrix.house import open_house
from tests.hostile.matrix.page import Expected, read_page
from tests.support.accounts import needs_root
from tests.support.programs import program
from tests.support.servers import run_server

_ACTIVITIES = list(ACTIVITIES)
_QUICK = {("daemon", "kill -9", "restart"), ("worker", "kill -9", "map"), ("engine", "EMFILE", "put")}
_EXPECTED = read_page()
# One activity for each fault of each kind of process, so that each activity meets each fault and each kind.
_CHOSEN = _QUICK | {
    (kind, fault, _ACTIVITIES[(row + column) % len(_ACTIVITIES)])
    for row, kind in enumerate(KINDS)
    for column, fault in enumerate(FAULTS)
}
_CELLS = [
    pytest.param(*cell, expected, id=" ".join(cell), marks=() if cell in _QUICK else pytest.mark.slow)
    # One fault of a process not soon after the same: a starter that dies again and again gets a pause.
    for cell, expected in sorted(_EXPECTED.items(), key=lambda item: tuple(reversed(item[0])))
    if cell in _CHOSEN or os.environ.get("FAULT_MATRIX") == "all"
]


@pytest.fixture(scope="module")
def make_stage(
    users: tuple[Credentials, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Stage]]:
    """Give a function that returns a server for a cell: the one from before, if that is whole."""
    for name in ("unshare", "nsenter", "setpriv", "prlimit"):
        program(name, "util-linux")
    # With room for all jobs, like the other one: none waits in the middle of an activity.
    other = run_server(tmp_path_factory.mktemp("other"), "--slots=6", users=users)
    with other as server, contextlib.ExitStack() as stack:
        stages: list[Stage] = []

        def make() -> Stage:
            if not stages or not stages[-1].is_whole:
                stack.close()
                stage = Stage(stack.enter_context(open_house(users[0])), server.host)
                stack.callback(stage.close)
                stages.append(stage)
            return stages[-1]

        yield make


def test_the_page_has_all_cells() -> None:
    cells = {(kind, fault, activity) for kind in KINDS for fault in FAULTS for activity in ACTIVITIES}
    assert _EXPECTED.keys() == cells


@needs_root
@pytest.mark.parametrize(("kind", "fault", "activity", "expected"), _CELLS)
def test_a_fault_is_seen_as_the_page_says_and_harms_nobody_else(
    make_stage: Callable[[], Stage], kind: str, fault: str, activity: str, expected: Expected
) -> None:
    seen = make_stage().play(kind, fault, activity, waits=expected.waits)
    assert not expected.difference(seen)
    if seen.outcome["error"] not in {None, "gone", "JobLostError"} and kind != "client":
        assert re.search(r"node 1 |127\.0\.0\.1:\d", seen.outcome["text"])
