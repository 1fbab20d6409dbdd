"""Attendants of the dispatcher: they are asked in its loop, may stop the giving out of jobs, and hear of its end."""

import threading
from typing import Any

from pconnect import local_network
from pconnect.executors.executor import scheduler_of


class Recorder:
    pauses = True

    def __init__(self) -> None:
        self.stepped = threading.Event()
        self.reason = ""
        self.nodes: list[int] = []

    def begin(self, pools: dict[int, Any], *_: object) -> None:
        self.nodes = list(pools)

    def step(self) -> None:
        self.stepped.set()

    def end(self, reason: str) -> None:
        self.reason = reason


def test_what_an_attendant_is_told() -> None:
    recorder = Recorder()
    with local_network(1, slots=1) as net:
        scheduler_of(net.mesh).attend(recorder)  # type: ignore[arg-type]
        assert recorder.stepped.wait(20)
        job = net.submit(pow, 2, 3)
        recorder.stepped.clear()
        assert recorder.stepped.wait(20)
        assert not job.done()
        recorder.pauses = False
        assert job.result(20) == 8
    assert (recorder.nodes, recorder.reason) == ([1], "the network was closed")
