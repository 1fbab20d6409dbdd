"""Who is let in, and the words for who is not."""

import pytest

from pserver.config.duty_options import DutyOptions
from pserver.duty.admission import Admission


def test_a_drained_server_refuses_everybody_until_it_resumes() -> None:
    admission = Admission(lambda: DutyOptions(name="one"), lambda: ["alice"])
    assert (admission.refusal("alice"), admission.facts()["open"]) == ("", True)
    admission.drain()
    expected = "server one takes no new session now: it is being drained; running sessions go on"
    assert (admission.refusal("alice"), admission.facts()["open"]) == (expected, False)
    admission.resume()
    assert (admission.refusal("alice"), admission.facts()["open"]) == ("", True)


@pytest.mark.parametrize(
    ("users", "why"),
    [
        ([], ""),
        (["bob"], ""),
        (["alice"], "alice has 1, and its administrator allows 1 for each user (--max-sessions-per-user)"),
        (["bob", "bob"], "there are 2, and its administrator allows 2 (--max-sessions)"),
        (["bob", "alice", "bob"], "there are 3, and its administrator allows 2 (--max-sessions)"),
    ],
)
def test_the_number_and_who_has_set_it_are_named(users: list[str], why: str) -> None:
    config = DutyOptions(name="one", max_sessions=2, max_sessions_per_user=1)
    refusal = Admission(lambda: config, lambda: users).refusal("alice")
    assert refusal == (f"server one takes no new session now: {why}" if why else "")


def test_another_value_holds_from_the_next_client_on() -> None:
    configs = [DutyOptions(max_sessions=1), DutyOptions(max_sessions=2)]
    admission = Admission(lambda: configs[0], lambda: ["bob"])
    assert admission.refusal("alice")
    configs.pop(0)
    assert not admission.refusal("alice")
