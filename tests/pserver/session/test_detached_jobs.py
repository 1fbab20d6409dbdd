"""The supervisor's handling of jobs whose client leaves; the workers here are only pipes."""

import math
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect.jobs.job import LOST
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import encode_message
from pserver.jobs.job_store import digest_of
from pserver.session.worker_process import WorkerProcess
from tests.support.detached_jobs import FACTS, Office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    assert made.say(Kind.KEEP, 0, digest_of(b"secret")) == [(Kind.KEEP, 0, None)]
    yield made
    made.detached_jobs.close("")
    for number, pipe in made.pipes.items():
        pipe.close()
        made.pages[number].close()
    for worker in made.workers.values():
        worker.close()


def keep_result(office: Office, number: int) -> None:
    office.store.keep(number, encode_message(Kind.RESULT, number, [0, "x", 0.0, 0.0], 2**20))


def test_jobs_are_given_out_one_by_one(office: Office) -> None:
    office.keep(1)
    office.keep(2)
    office.hire(5)
    office.leave()
    assert office.slot_client.is_detached
    assert (office.wanted, office.hear(5)) == (3, f"spool {office.store.folder}")
    office.speak(5, "spooling")
    for number in (1, 2):
        assert office.hear(5) == f"run {number}"
        keep_result(office, number)
        office.speak(5, f"done {number}")
    assert office.hear(5) == "end"
    assert office.detached_jobs.is_done


def test_the_client_is_told_when_nothing_more_is_sent(office: Office) -> None:
    office.hire(5)
    office.pages[5].set_sending(True)
    assert office.say(Kind.DETACH) == []
    assert office.detached_jobs.tend() < 1
    office.pages[5].set_sending(False)
    assert office.detached_jobs.tend() == math.inf
    assert office.told == [(Kind.DETACH, 0, None)]
    assert office.pages[5].is_detached()


def test_what_a_worker_has_is_not_given_to_another(office: Office) -> None:
    office.hire(5)
    office.hire(6)
    office.keep(1, worker=5)
    office.keep(2, worker=5)
    office.keep(3, worker=5)
    office.leave(1)
    office.speak(6, "spooling")
    assert [office.hear(6) for _ in range(2)] == [f"spool {office.store.folder}", "end"]
    keep_result(office, 2)  # it was running
    office.speak(5, "spooling")
    assert [office.hear(5) for _ in range(2)] == [f"spool {office.store.folder}", "run 3"]
    assert office.store.numbers() == [2, 3]


@pytest.mark.parametrize("retries", [0, 1])
def test_a_worker_that_dies(office: Office, retries: int) -> None:
    office.keep(1, retries=retries)
    office.hire(5)
    office.leave()
    office.speak(5, "spooling")
    office.end(5)
    if retries:
        assert (office.wanted, office.detached_jobs.is_done) == (1, False)
        return
    kind, text, _, seconds, output = office.result(1)
    assert (kind, text) == (LOST, "its worker died: SIGKILL; its last output:\nits end")
    assert (seconds, output) == (1.0, [b"its end\n", 0, b"", 0])
    assert office.detached_jobs.is_done


def test_a_job_that_waits_and_is_cancelled_does_not_begin(office: Office) -> None:
    office.keep(1)
    office.keep(2, retries=3)
    office.hire(5)
    office.leave()
    office.store.ask_to_stop(2, 5.0)
    office.detached_jobs.tend()
    assert office.result(2)[:2] == [LOST, "it was cancelled before it began"]
    office.hear(5)
    office.speak(5, "spooling")
    assert office.hear(5) == "run 1"
    keep_result(office, 1)
    office.speak(5, "done 1")
    assert office.hear(5) == "end"
    office.detached_jobs.tend()
    assert office.store.stops() == {}


def test_a_job_that_runs_and_is_cancelled_is_interrupted_and_not_run_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[tuple[int, int, float, str]] = []

    def stop(worker: WorkerProcess, job: int, grace: float, why: str) -> None:
        worker.stopping = job
        stopped.append((worker.number, job, grace, why))

    monkeypatch.setattr(WorkerProcess, "stop", stop)
    office.keep(1, retries=3)
    office.hire(5)
    office.hire(6)
    office.leave()
    office.speak(5, "spooling")
    office.pages[5].begin(1, 0.0, 0.0)
    office.store.ask_to_stop(1, 2.5)
    office.store.ask_to_stop(77, 2.5)  # it has ended
    for _ in range(2):
        office.detached_jobs.tend()
    assert stopped == [(5, 1, 2.5, "job 1 was cancelled and did not end by itself")]
    assert list(office.store.stops()) == [1]
    office.end(5)
    assert office.result(1)[0] == LOST
    assert office.detached_jobs.is_done
    office.detached_jobs.tend()
    assert office.store.stops() == {}


def test_the_last_results_of_a_worker_that_dies(office: Office) -> None:
    office.hire(5)
    office.keep(1, worker=5)
    office.keep(2, worker=5)
    office.leave()
    last = encode_message(Kind.RESULT, 1, [0, "x", 0.0, 0.0], 2**20)
    office.end(5, results=b"".join(last))
    assert office.result(1)[:2] == [0, "x"]
    assert (office.store.results(), office.wanted) == ({1}, 1)  # the other job had not begun


def test_workers_that_do_not_suit_are_ended(office: Office) -> None:
    office.keep(1, after=7)
    office.keep(2, isolate=True)
    office.hire(5, command=6)
    office.pages[5].end(1, 0.5)  # it has done a job
    office.leave()
    office.speak(5, "spooling")
    assert [office.hear(5) for _ in range(2)] == [f"spool {office.store.folder}", "end"]
    office.end(5)
    office.hire(6, command=7)
    office.speak(6, "spooling")
    assert [office.hear(6) for _ in range(2)][1] == "run 1"


def test_what_cannot_be_done_any_more_is_lost(office: Office) -> None:
    office.keep(1)
    office.keep(2)
    office.leave()
    keep_result(office, 1)
    office.slot_client.is_gone = True
    office.detached_jobs.tend()
    assert (office.result(1)[0], office.result(2)[:2]) == (0, [LOST, "the server is gone"])
    assert office.detached_jobs.is_done


def test_a_client_that_changes_its_mind_or_dies(office: Office) -> None:
    office.keep(1)
    assert office.say(Kind.KEEP, 0, None) == [(Kind.KEEP, 0, None)]
    assert not office.store.folder.exists()
    assert office.say(Kind.KEEP, 0, digest_of(b"secret")) == [(Kind.KEEP, 0, None)]
    office.keep(1)
    office.detached_jobs.close("the client is gone")
    assert not office.store.folder.exists()


def test_a_client_that_changes_its_mind_after_its_workers_have_left_it(office: Office) -> None:
    office.hire(5)
    office.hire(6)
    office.keep(1, worker=5)
    assert office.say(Kind.DETACH) == [(Kind.DETACH, 0, None)]
    office.speak(5, "spooling")
    assert office.say(Kind.KEEP, 0, None) == [(Kind.KEEP, 0, None)]
    office.speak(6, "spooling")
    for worker in (5, 6):  # the client gets other workers, which send to it
        assert [office.hear(worker) for _ in range(2)][1] == "end"
    office.hire(7)
    assert not office.pages[7].is_detached()
    assert office.say(Kind.KEEP, 0, digest_of(b"secret")) == [(Kind.KEEP, 0, None)]
    office.keep(1)
    office.leave()
    assert office.hear(7) == f"spool {office.store.folder}"


def test_a_client_that_vanishes_while_it_hands_over(office: Office) -> None:
    office.hire(5)
    office.keep(1, worker=5)
    office.say(Kind.DETACH)
    office.detached_jobs.client_vanished()
    assert not office.store.folder.exists()
    office.hire(6)  # for the job that is queued again
    assert not office.pages[6].is_detached()


def move_away(office: Office) -> Path:
    return office.store.folder.rename(office.store.folder.with_name("away"))


def test_no_job_begins_before_all_results_are_written(office: Office) -> None:
    office.keep(1)
    office.keep(2)
    office.keep(3)
    office.hire(5)
    office.hire(6)
    office.leave()
    office.speak(5, "spooling")
    away = move_away(office)
    office.end(5)
    office.speak(6, "spooling")
    assert [office.hear(6) for _ in range(2)][1] == "end"
    office.end(6)
    office.detached_jobs.tend()
    assert (office.wanted, office.detached_jobs.is_done) == (0, False)
    away.rename(office.store.folder)
    office.detached_jobs.tend()
    assert (office.wanted, office.result(1)[0]) == (2, LOST)


def test_it_is_not_done_before_all_results_are_written(office: Office) -> None:
    office.keep(1)
    office.hire(5)
    office.leave()
    office.pages[5].keep(b"".join(encode_message(Kind.RESULT, 1, [0, "x", 0.0, 0.0], 2**20)), 0)
    away = move_away(office)
    office.end(5, results=bytes(office.pages[5].results(office.pages[5].read().unsent)))
    assert not office.detached_jobs.is_done
    away.rename(office.store.folder)
    office.detached_jobs.tend()
    assert office.detached_jobs.is_done and office.result(1)[:2] == [0, "x"]


def test_jobs_whose_folder_was_removed_are_given_up(office: Office) -> None:
    office.keep(1)
    office.keep(2)
    office.hire(5)
    office.leave()
    shutil.rmtree(office.store.folder)
    assert office.detached_jobs.tend() == math.inf
    assert office.detached_jobs.is_done
    office.speak(5, "spooling")
    assert [office.hear(5) for _ in range(2)][1] == "end"


def test_the_last_results_are_written_when_the_session_ends(office: Office) -> None:
    office.keep(1)
    office.keep(2)
    office.hire(5)
    office.leave()
    office.pages[5].keep(b"".join(encode_message(Kind.RESULT, 1, [0, "x", 0.0, 0.0], 2**20)), 0)
    away = move_away(office)
    timer = threading.Timer(0.3, lambda: away.rename(office.store.folder))
    timer.start()
    office.detached_jobs.close("the server was stopped")
    timer.join()
    assert office.result(1)[:2] == [0, "x"]
    assert (office.store.is_held(), office.store.why_ended()) == (False, "the server was stopped")


def test_who_ends_before_a_result_is_written_says_why(office: Office) -> None:
    office.keep(1)
    office.leave()
    away = move_away(office)
    office.detached_jobs.lose_all("the engine died: SIGKILL")
    office.detached_jobs.close("the server was stopped")
    away.rename(office.store.folder)
    assert "the server was stopped; results could not be written" in office.store.why_ended()


BEGIN, FORGET, COPY = (0, digest_of(b"secret")), (0, None), (1, [FACTS | {"worker": 0}, {}, b""])
OUT_OF_TURN = [
    ([(Kind.KEEP, *FORGET)], [(Kind.KEEP, *COPY), (Kind.DETACH, 0, None), (Kind.LEAVE, 0, [])]),
    ([], [(Kind.LEAVE, 0, [])]),
    ([(Kind.DETACH, 0, None)], [(Kind.KEEP, *COPY), (Kind.DETACH, 0, None)]),
    (
        [(Kind.DETACH, 0, None), (Kind.LEAVE, 0, [])],
        [
            (Kind.KEEP, *BEGIN),
            (Kind.KEEP, *FORGET),
            (Kind.KEEP, *COPY),
            (Kind.DETACH, 0, None),
            (Kind.LEAVE, 0, []),
        ],
    ),
]


@pytest.mark.parametrize(("before", "refused"), OUT_OF_TURN)
def test_what_is_said_out_of_turn(office: Office, before: list[Any], refused: list[Any]) -> None:
    for message in before:
        office.say(*message)
    for message in refused:
        [(_, _, answer)] = office.say(*message)
        assert "out of order" in answer


def test_a_limit_holds_among_workers_and_jobs_without_it_overtake(office: Office) -> None:
    for number in (1, 2, 3, 4):
        office.keep(number)
    assert office.say(Kind.LIMIT, 1, [1, [1, 2, 3]]) == [(Kind.LIMIT, 1, None)]
    office.hire(5)
    office.hire(6)
    office.leave()
    assert office.wanted == 4  # two workers, and those for one job with the limit and one without
    for worker in (5, 6):
        office.hear(worker)
        office.speak(worker, "spooling")
    assert (office.hear(5), office.hear(6)) == ("run 1", "run 4")
    keep_result(office, 4)
    office.speak(6, "done 4")
    assert office.hear(6) == "end"
    office.end(6)
    office.detached_jobs.tend()
    assert office.wanted == 1  # a worker more would find no job
    keep_result(office, 1)
    office.speak(5, "done 1")
    assert office.hear(5) == "run 2"
    office.end(5)  # this loses job 2, so the next worker gets job 3
    assert office.wanted == 1
    office.hire(7)
    office.speak(7, "spooling")
    assert [office.hear(7) for _ in range(2)][1] == "run 3"


def test_jobs_that_workers_have_from_the_client_count_for_their_limit(office: Office) -> None:
    office.hire(5)
    office.hire(6)
    office.keep(1, worker=5)
    office.keep(2, worker=5)
    office.keep(3)
    office.say(Kind.LIMIT, 7, [1, [1, 2, 3]])
    office.leave()
    office.speak(6, "spooling")
    assert [office.hear(6) for _ in range(2)][1] == "end"  # worker 5 may be running job 1 or 2
    keep_result(office, 1)
    office.speak(5, "spooling")
    assert [office.hear(5) for _ in range(2)][1] == "run 3"


def test_limits_are_forgotten_with_the_jobs(office: Office) -> None:
    office.say(Kind.LIMIT, 1, [1, [1, 2]])
    assert office.say(Kind.KEEP, 0, None) == [(Kind.KEEP, 0, None)]
    assert "out of order" in office.say(Kind.LIMIT, 1, [1, [1, 2]])[0][2]
    assert office.say(Kind.KEEP, 0, digest_of(b"secret")) == [(Kind.KEEP, 0, None)]
    office.keep(1)
    office.keep(2)
    office.leave()
    assert office.wanted == 2
