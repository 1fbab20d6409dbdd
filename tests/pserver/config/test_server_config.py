import dataclasses
from typing import Any

import pytest

from pserver.config.server_config import ServerConfig
from srp_tools.errors import ConfigurationError


def test_slots_are_counted_by_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3, 5})
    counts = {slots: ServerConfig(slots=slots).slot_count() for slots in (None, 0, 1, 3, 100, -1, -2)}
    assert counts == {None: 3, 0: 0, 1: 1, 3: 3, 100: 100, -1: 2, -2: 1}
    for slots in (-3, -4):
        with pytest.raises(ConfigurationError, match=f"--slots {slots}: that leaves none of 3 processors"):
            ServerConfig(slots=slots)


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ServerConfig().name = "other"  # type: ignore[misc]


def test_a_limit_of_files_is_not_negative() -> None:
    with pytest.raises(ConfigurationError, match="--max-file-size -1: "):
        ServerConfig(max_file_size=-1)


def option_of(name: str, value: Any) -> dict[str, Any]:
    return {name.replace("-", "_"): value}


@pytest.mark.parametrize("option", ["allow-users", "allow-from"])
def test_a_list_of_nothing_does_not_let_everybody_in(option: str) -> None:
    for text in ("", " ,"):
        with pytest.raises(ConfigurationError, match="names no user"):
            ServerConfig(**option_of(option, text))


@pytest.mark.parametrize("option", ["auth-file", "log-file", "spool-dir"])
def test_an_empty_text_is_no_value(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--{option}: it is empty"):
        ServerConfig(**option_of(option, ""))


def test_numbers_have_an_upper_bound_where_a_larger_one_would_break_later() -> None:
    for name in ("login_timeout", "proof_timeout", "silence_timeout"):
        with pytest.raises(ConfigurationError, match="at most 86400"):
            ServerConfig(**option_of(name, 1e300))
    with pytest.raises(ConfigurationError, match="--slots 1000000: "):
        ServerConfig(slots=10**6)
