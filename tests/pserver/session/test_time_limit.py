from typing import Any

from pserver.session.time_limit import TimeLimit


def failure(kind: str) -> dict[str, Any]:
    return {"type": kind, "bases": [kind], "message": "", "traceback": f"Traceback\n{kind}\n", "seconds": 1.0}


def test_without_seconds_there_is_none() -> None:
    assert TimeLimit.of(None) is None


def test_an_interrupt_is_called_by_its_reason_and_nothing_else_is_changed() -> None:
    limit = TimeLimit.of(2.5)
    assert limit is not None
    interrupted = failure("KeyboardInterrupt")
    limit.explain(interrupted)
    assert (interrupted["type"], interrupted["bases"]) == ("TimeoutError", ["TimeoutError"])
    assert interrupted["traceback"].endswith(
        "KeyboardInterrupt\nTimeoutError: the time limit of 2.5 s passed"
    )
    for outcome in (failure("ValueError"), 1.0):
        before = dict(outcome) if isinstance(outcome, dict) else outcome
        limit.explain(outcome)
        assert outcome == before
