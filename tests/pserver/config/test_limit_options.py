"""Session limits: valid values, and how they reach a session."""

import dataclasses

import pytest

from pserver.config.limit_options import LimitOptions, SessionLimits
from srp_tools.errors import ConfigurationError


def test_nothing_is_limited_unless_somebody_says_so() -> None:
    assert LimitOptions().session_limits() == SessionLimits()
    assert SessionLimits().as_json() == {}


def test_each_option_reaches_the_session() -> None:
    options = {
        field.name: field.metadata["option"].parse("300000000" if "memory" in field.name else "64")
        for field in dataclasses.fields(LimitOptions)
        if field.name.startswith(("session", "job", "idle", "max_file"))
    }
    limits = LimitOptions(**options, nice=7).session_limits("/somewhere")
    assert all(vars(limits).values()), limits
    assert SessionLimits.from_json(limits.as_json()) == limits
    assert (limits.cpu, limits.nice, limits.cgroup) == (64.0, 7, "/somewhere")


def test_all_of_them_hold_for_later_sessions_of_a_server_that_runs() -> None:
    own = set(dataclasses.fields(LimitOptions)) - set(dataclasses.fields(LimitOptions.__base__ or object))
    assert len(own) == 13
    assert all(field.metadata["option"].reloads for field in own)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("session_memory", 2**27, r"--session-memory .*: a session needs 256m or more"),
        ("session_files", 63, r"--session-files 63: a session needs 64 or more"),
        ("session_processes", -1, r"--session-processes -1: a session needs 8 or more"),
        ("session_cpu", 0.5, r"--session-cpu 0.5: a session needs 1 or more"),
        ("session_time", float("nan"), r"--session-time nan: give 0 or more"),
        ("session_processors", float("inf"), r"--session-processors inf: give 0.01 or more"),
        ("nice", 20, r"--nice 20: give 0 to 19"),
    ],
)
def test_what_nobody_could_work_with_is_refused(name: str, value: float, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        LimitOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values", [{"what": 1}, {"memory": "1"}, {"memory": True}, {"cgroup": 1}, {"cpu": None}]
)
def test_what_are_no_limits_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="is not a session limit"):
        SessionLimits.from_json(values)
