"""Which users a server admits, and the messages to those it refuses."""

from datetime import UTC, datetime

import pytest

from pserver.config.duty_options import DutyOptions
from pserver.duty.admission import Admission


def test_a_drained_server_refuses_everybody_until_it_resumes() -> None:
    admission = Admission(lambda: DutyOptions(name="one"), lambda: ["alice"])
    assert (admission.refusal("alice"), admission.facts()["open"]) == ("", True)
    admission.drain()
    expected = "server one accepts no new session now: it is being drained; running sessions continue"
    assert (admission.refusal("alice"), admission.facts()["open"]) == (expected, False)
    admission.resume()
    assert (admission.refusal("alice"), admission.facts()["open"]) == ("", True)


@pytest.mark.parametrize(
    ("users", "why"),
    [
        ([], ""),
        (["bob"], ""),
        (
            ["alice"],
            "alice has reached the session limit set by its administrator: 1 of 1 (--max-sessions-per-user)",
        ),
        (
            ["bob", "bob"],
            "it has reached the session limit set by its administrator: 2 of 2 (--max-sessions)",
        ),
        (
            ["bob", "alice", "bob"],
            "it has reached the session limit set by its administrator: 3 of 2 (--max-sessions)",
        ),
    ],
)
def test_the_number_and_who_has_set_it_are_named(users: list[str], why: str) -> None:
    config = DutyOptions(name="one", max_sessions=2, max_sessions_per_user=1)
    refusal = Admission(lambda: config, lambda: users).refusal("alice")
    assert refusal == (f"server one accepts no new session now: {why}" if why else "")


def test_another_value_holds_from_the_next_client_on() -> None:
    configs = [DutyOptions(max_sessions=1), DutyOptions(max_sessions=2)]
    admission = Admission(lambda: configs[0], lambda: ["bob"])
    assert admission.refusal("alice")
    configs.pop(0)
    assert not admission.refusal("alice")


NIGHT = DutyOptions(name="one", service_start="17:00", service_stop="06:00", service_end="08:00")


def utc(instant: float) -> datetime:
    return datetime.fromtimestamp(instant, UTC).replace(tzinfo=None)


def at(text: str, config: DutyOptions = NIGHT) -> Admission:
    """Return the admission at a time of day in UTC."""
    now = datetime.fromisoformat(f"2027-06-01 {text}Z").timestamp()
    return Admission(
        lambda: config,
        list,
        lambda: now,
        lambda instant: datetime.fromtimestamp(instant, UTC).replace(tzinfo=None),
    )


@pytest.mark.parametrize(
    ("text", "words", "begins_jobs"),
    [
        ("16:59:59", "closed until 17:00", False),
        ("17:00", "open until 06:00, hard end 08:00", True),
        ("05:59:59", "open until 06:00, hard end 08:00", True),
        ("06:00", "closed until 17:00, hard end 08:00", False),
        ("08:00", "closed until 17:00", False),
    ],
)
def test_the_hours_are_said_in_words(text: str, words: str, begins_jobs: bool) -> None:
    admission = at(text)
    assert str(admission) == admission.facts()["words"] == words
    assert (admission.begins_jobs, admission.facts()["open"]) == (begins_jobs, begins_jobs)
    why = "its hours are 17:00 to 06:00 (--service-start, --service-stop), and it opens again at 17:00"
    refusal = "" if begins_jobs else f"server one accepts no new session now: {why}"
    assert admission.refusal("alice") == refusal


@pytest.mark.parametrize(
    ("text", "is_ended"), [("07:59:59", False), ("08:00", True), ("16:59", True), ("17:00", False)]
)
def test_sessions_end_at_the_end(text: str, is_ended: bool) -> None:
    why = "service hours: the server ends all sessions at 08:00 (--service-end), and opens again at 17:00"
    assert at(text).why_ended() == (why if is_ended else "")


def test_without_an_end_sessions_go_on() -> None:
    config = DutyOptions(service_start="09:00", service_stop="17:00")
    assert at("18:00", config).why_ended() == ""
    assert (str(at("18:00", config)), str(at("16:00", config))) == ("closed until 09:00", "open until 17:00")


def test_without_a_stop_it_is_the_end() -> None:
    config = DutyOptions(service_start="09:00", service_end="17:00")
    assert str(at("10:00", config)) == "open until 17:00, hard end 17:00"
    assert "hours are 09:00 to 17:00 (--service-start, --service-end)" in at("17:00", config).refusal("alice")
    assert at("17:00", config).why_ended()


def test_drained_counts_before_the_hours() -> None:
    admission = at("18:00")
    admission.drain()
    assert (str(admission), admission.begins_jobs) == ("drained, hard end 08:00", False)
    assert "drained" in admission.refusal("alice")
    assert str(Admission(DutyOptions, list)) == "open"


def test_what_holds_is_found_out_when_it_changes_or_the_clock_is_set() -> None:
    now = [datetime(2027, 6, 1, 16, 59, 50, tzinfo=UTC).timestamp()]
    moved = [0.0]
    admission = Admission(lambda: NIGHT, list, lambda: now[0], lambda instant: utc(instant + moved[0]))
    assert (str(admission), admission.time_left()) == ("closed until 17:00", 10)
    now[0] += 10
    assert (admission.begins_jobs, admission.time_left()) == (True, 30)  # it checks again in any case
    now[0] -= 1
    assert (admission.begins_jobs, admission.time_left()) == (False, 1)
    moved[0] = 3600  # to another time zone
    now[0] -= 1
    assert admission.begins_jobs
    assert Admission(DutyOptions, list).time_left() is None


def test_a_server_that_is_released_begins_the_jobs_of_the_sessions_that_are_there() -> None:
    admission = Admission(lambda: DutyOptions(name="one"), list)
    admission.drain(finishes_jobs=True)
    assert admission.begins_jobs and "drained" in admission.refusal("alice")
    admission.drain()
    assert not admission.begins_jobs
