from pserver.statistics.ledger import Ledger, Owner
from pserver.statistics.work import Running, Span, Told, Work

ALICE, BOB = Owner(11, "alice"), Owner(22, "bob")
SLOTS = {100: 0, 200: 1}


def test_work_counts_for_the_server_and_its_slots() -> None:
    ledger = Ledger()
    told = Told([(100, Work(2)), (200, Work(jobs_failed=1)), (300, Work(99))])  # 300 belongs to another node
    ledger.take("node", ALICE, told, SLOTS.get, 0.0)
    ledger.take("node", ALICE, Told([(100, Work(1))]), SLOTS.get, 0.0)
    assert ledger.total == Work(3, 1) and ledger.of_slot(0) == Work(3) and ledger.of_slot(5) == Work()


def test_what_runs_is_what_was_told_last() -> None:
    ledger = Ledger()
    first, second = Running(1.0, False, "f"), Running(2.0, True, "make")
    ledger.take("node", ALICE, Told(running=[(100, first)]), SLOTS.get, 0.0)
    ledger.take("node", ALICE, Told(running=[(200, second)], is_more=True), SLOTS.get, 0.0)
    assert ledger.running() == {0: (ALICE, first), 1: (ALICE, second)}
    ledger.take("node", ALICE, Told(work=[(100, Work(1))]), SLOTS.get, 0.0)
    assert len(ledger.running()) == 2
    ledger.take("node", ALICE, Told(running=[(200, second), (300, first)]), SLOTS.get, 0.0)
    assert ledger.running() == {1: (ALICE, second)}


def test_what_ran_in_a_session_that_was_killed_is_lost() -> None:
    ledger = Ledger()
    running = [(100, Running(1.0, False, "f")), (200, Running(2.0, True, "make"))]
    ledger.take("node", ALICE, Told(running=running), SLOTS.get, 0.0)
    ledger.leave("node", 5.0)
    ledger.leave("node", 6.0)
    assert ledger.total == Work(jobs_lost=1, programs_lost=1) and ledger.running() == {}
    assert {(each["label"], each["outcome"], each["end"]) for each in ledger.timeline(-1.0, None)} == {
        ("f", "lost", 5.0),
        ("make", "lost", 5.0),
    }


def test_the_timeline_has_the_newest_first_and_hides_what_is_of_others() -> None:
    ledger = Ledger()
    ledger.take("a", ALICE, Told(spans=[(100, Span(1.0, 9.0, False, "done", "late"))]), SLOTS.get, 10.0)
    ledger.take("b", BOB, Told(spans=[(200, Span(2.0, 3.0, True, "failed", "make"))]), SLOTS.get, 11.0)
    ledger.take("b", BOB, Told(running=[(200, Running(8.0, False, ""))]), SLOTS.get, 12.0)
    whole = ledger.timeline(-1.0, None)
    assert [(each["slot"], each["kind"], each["outcome"], each["user"]) for each in whole] == [
        (1, "job", "running", "bob"),
        (0, "job", "done", "alice"),
        (1, "program", "failed", "bob"),
    ]
    assert whole[0]["end"] is None and whole[0]["label"] is None
    own = ledger.timeline(-1.0, "alice")
    assert [(each["user"], each["session"], each["label"]) for each in own] == [
        (None, None, None),
        ("alice", 11, "late"),
        (None, None, None),
    ]
    assert len(ledger.timeline(10.5, None)) == 2  # the time of the report counts, not that of the end


def test_bytes_of_sessions_that_have_ended_still_count() -> None:
    ledger = Ledger()
    ledger.count_bytes(5, 7)
    assert ledger.bytes_with([]) == (5, 7) and ledger.bytes_with([(1, 2), (3, 4)]) == (9, 13)


def test_memory_is_bounded() -> None:
    ledger = Ledger()
    for lease in range(1, 10_000):
        span = (lease, Span(1.0, 2.0, False, "done", "f"))
        ledger.take("node", ALICE, Told([(lease, Work(1))], None, False, [span]), lambda lease: lease, 0.0)
    assert ledger.total.jobs_done == 9999
    assert len(ledger.timeline(-1.0, None)) == 2000 and ledger.of_slot(9000) == Work()


def test_much_work_of_one_user_leaves_that_of_others_in_the_timeline() -> None:
    ledger = Ledger()
    for number in range(3):
        ledger.take("b", BOB, Told(spans=[(200, Span(number, number, False, "done", "bobs"))]), SLOTS.get, 0)
    spans = [(100, Span(5.0, number, False, "done", "alices")) for number in range(10, 3010)]
    ledger.take("a", ALICE, Told(spans=spans), SLOTS.get, 1.0)
    labels = [each["label"] for each in ledger.timeline(-1.0, None)]
    assert (labels.count("bobs"), labels.count("alices")) == (3, 1997)
    assert ledger.timeline(-1.0, None)[0]["end"] == 3009  # the oldest entries of the other user were dropped
    assert ledger.timeline(-1.0, None)[1996]["end"] == 1013
