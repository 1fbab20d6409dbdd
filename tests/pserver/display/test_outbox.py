"""Notes on their way to a supervisor: their order, and dropped notes."""

import threading
import time
from typing import Any

import pytest

from pconnect.protocol.kinds import Kind
from pserver.display.outbox import Outbox
from tests.support.front_end import FEW, Far, instant
from tests.support.links import LIMIT


def from_thread(step: Any) -> None:
    thread = threading.Thread(target=step)
    thread.start()
    thread.join(LIMIT)


def test_a_note_of_the_main_thread_goes_at_once(far: Far, outbox: Outbox) -> None:
    assert outbox.put("log", {"a": 1}, 1)
    far.loop.run_until(lambda: bool(far.heard), instant(LIMIT), "a note")
    message = far.heard[0]
    assert (message.kind, message.tag, message.value) == (Kind.FRONT_END, 7, ["log", {"a": 1}])


def test_a_note_of_another_thread_goes_with_the_next_look_of_the_main_thread(
    far: Far, outbox: Outbox
) -> None:
    from_thread(lambda: outbox.put("log", {"from": "thread"}, 1))
    far.loop.poll(0)
    assert far.heard == []
    assert far.hear(1) == [["log", {"from": "thread"}]]


def test_a_note_made_inside_our_loop_waits(far: Far, outbox: Outbox) -> None:
    with far.engine_loop.sigint_deferred:
        outbox.put("log", {"from": "a finalizer"}, 1)
        assert not far.engine_end.wants_to_write
        far.loop.poll(0)
        assert far.heard == []
    assert far.hear(1) == [["log", {"from": "a finalizer"}]]


def test_notes_come_before_the_end_of_their_command(far: Far, outbox: Outbox) -> None:
    for number in range(20):
        from_thread(lambda number=number: outbox.put("log", {"n": number}, 1))
    far.end_command(outbox)
    assert [value[1]["n"] for value in far.hear_all()] == list(range(20))


@pytest.mark.parametrize("in_threads", [False, True])
def test_what_is_dropped_is_counted_exactly_where_it_is_missing(
    far: Far, outbox: Outbox, in_threads: bool
) -> None:
    total, text = 4000, "x" * 1000  # 4 MB, more than fit into the socket, which nobody reads

    def flood(first: int) -> None:
        for number in range(first, total, 4):
            outbox.put("log", {"n": number, "text": text}, len(text))

    if in_threads:
        threads = [threading.Thread(target=flood, args=[first]) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    else:
        for first in range(4):
            flood(first)
    far.end_command(outbox)
    assert far.engine_end.unsent_bytes < 2 * FEW + 2**12
    values = far.hear_all()
    arrived = [content["n"] for what, content in values if what == "log"]
    dropped = [int(content["message"].split()[0]) for what, content in values if what == "warning"]
    assert len(set(arrived)) == len(arrived)
    assert len(arrived) + sum(dropped) == total
    assert sum(dropped) > 0


def test_it_goes_on_when_the_supervisor_reads_again(far: Far, outbox: Outbox) -> None:
    text = "x" * 1000
    for number in range(2000):
        outbox.put("log", {"n": number, "text": text}, len(text))
    far.end_command(outbox)
    far.hear_all()
    far.heard.clear()
    outbox.put("log", {"n": "after"}, 1)
    assert far.hear(1) == [["log", {"n": "after"}]]


def test_a_display_that_is_larger_than_what_may_wait_passes_alone(far: Far, outbox: Outbox) -> None:
    data = {"image/png": bytes(4 * FEW)}
    outbox.put("display", data, 4 * FEW)
    assert far.hear(1) == [["display", data]]


def test_a_display_waits_a_little_for_room_and_then_is_dropped(far: Far, outbox: Outbox) -> None:
    begin = time.monotonic()
    for _ in range(20):
        outbox.put("display", {"data": {"image/png": bytes(2**20)}}, 2**20)
    assert 0.2 < time.monotonic() - begin < 2 * 0.2 + 5  # it waits once, not for each note
    far.end_command(outbox)
    values = far.hear_all()
    displays = [value for value in values if value[0] == "display"]
    assert values[-1][1]["message"].startswith(f"{20 - len(displays)} notes ")
