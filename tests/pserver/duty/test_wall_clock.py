import os
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from pserver.duty.wall_clock import wall_clock


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    with monkeypatch.context() as changed:
        yield changed
    time.tzset()


def test_a_machine_may_be_moved(zone: pytest.MonkeyPatch) -> None:
    zone.setenv("TZ", "UTC0")
    assert wall_clock(0) == datetime(1970, 1, 1)
    os.environ["TZ"] = "XYZ-1:30"
    assert wall_clock(0) == datetime(1970, 1, 1, 1, 30)
