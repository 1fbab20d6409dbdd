"""Each fault in each kind of process during each kind of client work, with the effects in doc/reliability.md.

The tests run only some of the 210 cells. FAULT_MATRIX=all in the environment runs all; this takes some minutes.
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
# One activity for each fault of each kind of process: each activity meets each fault and each kind.
_CHOSEN = _QUICK | {
    (kind, fault, _ACTIVITIES[(row + column) % len(_ACTIVITIES)])
    for row, kind in enumerate(KINDS)
    for column, fault in enumerate(FAULTS)
}
_CELLS = [
    pytest.param(*cell, expected, id=" ".join(cell), marks=() if cell in _QUICK else pytest.mark.slow)
    # The same fault of a process does not recur soon: a starter that dies repeatedly must pause.
    for cell, expected in sorted(_EXPECTED.items(), key=lambda item: tuple(reversed(item[0])))
    if cell in _CHOSEN or os.environ.get("FAULT_MATRIX") == "all"
]


@pytest.fixture(scope="module")
def make_stage(
    users: tuple[Credentials, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Stage]]:
    """Yield a function that returns a server for a cell: the earlier one, if it is intact."""
    for name in ("unshare", "nsenter", "setpriv", "prlimit"):
        program(name, "util-linux")
    # With slots for all jobs, like the other one, so no job waits in the middle of an activity.
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
