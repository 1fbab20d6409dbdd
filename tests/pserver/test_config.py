import dataclasses
from typing import Any

import pytest

from pserver.config import ServerConfig, check_server_name, parse_size
from srp_tools.errors import ConfigurationError


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_is_in_range(port: int) -> None:
    with pytest.raises(ConfigurationError, match=f"--cmd-port {port}: "):
        ServerConfig(cmd_port=port)
    with pytest.raises(ConfigurationError, match=f"--data-port {port}: "):
        ServerConfig(data_port=port)


def test_the_two_ports_differ() -> None:
    with pytest.raises(ConfigurationError, match="both 12502"):
        ServerConfig(cmd_port=12502, data_port=12502)


def test_both_ports_may_be_any_free_one() -> None:
    assert ServerConfig(cmd_port=0, data_port=0).data_port == 0


@pytest.mark.parametrize("name", ["default", "a", "node-1.lab_2", "x" * 64])
def test_usable_names(name: str) -> None:
    assert ServerConfig(name=name).name == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a/b", "..", ".hidden", "-option", "a b", "a\n", "a\0"])
def test_names_that_are_no_good_file_names(name: str) -> None:
    with pytest.raises(ConfigurationError, match="--name"):
        ServerConfig(name=name)
    with pytest.raises(ConfigurationError, match="--name"):
        check_server_name(name)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_of_time_is_positive_and_finite(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="--login-timeout"):
        ServerConfig(login_timeout=seconds)
    with pytest.raises(ConfigurationError, match="--proof-timeout"):
        ServerConfig(proof_timeout=seconds)
    with pytest.raises(ConfigurationError, match="--silence-timeout"):
        ServerConfig(silence_timeout=seconds)


def test_somebody_can_log_in() -> None:
    with pytest.raises(ConfigurationError, match="--max-startups 0"):
        ServerConfig(max_startups=0)
    with pytest.raises(ConfigurationError, match="--login-processes 0"):
        ServerConfig(login_processes=0)


@pytest.mark.parametrize(
    ("given", "meant"), [(8, (8, 100, 8)), ("8", (8, 100, 8)), ("10:30:100", (10, 30, 100))]
)
def test_startups_are_written_as_for_sshd(given: int | str, meant: tuple[int, int, int]) -> None:
    assert ServerConfig(max_startups=given).startups() == meant


@pytest.mark.parametrize(
    "text", ["", "x", "10:30", "10:30:", "10:101:100", "10:30:9", "0:30:10", "-1", "1:2:3:4"]
)
def test_what_are_no_startups(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--max-startups"):
        ServerConfig(max_startups=text)


def test_lists_are_texts_or_sequences() -> None:
    for given in ("a, b,", ["a", "b"], ("a", "b")):
        assert ServerConfig(allow_users=given).allow_users == ("a", "b")


@pytest.mark.parametrize("text", ["10.0.0.1/8", "here", "1.2.3", "::1/129"])
def test_only_networks_can_be_allowed(text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--allow-from {text}: "):
        ServerConfig(allow_from=["127.0.0.1", text])


def test_a_number_of_failures_is_not_negative() -> None:
    with pytest.raises(ConfigurationError, match="--max-failures -1"):
        ServerConfig(max_failures=-1)


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


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("17", 17), ("1k", 1024), ("3M", 3 * 2**20), ("1t", 2**40)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "10q", "k", "-1", "1.5g", "1 k", "1kb", "1k\n", "\u0661"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a size: give a number of bytes"):
        parse_size(text)


def test_a_limit_of_files_is_not_negative() -> None:
    with pytest.raises(ConfigurationError, match="--max-file-size -1: "):
        ServerConfig(max_file_size=-1)


@pytest.mark.parametrize("options", [{"allow_users": ["alice"]}, {"auth_file": "users"}])
def test_without_tls_there_are_no_users(options: dict[str, Any]) -> None:
    ServerConfig(**options)
    with pytest.raises(ConfigurationError, match=r"--no-tls: without TLS there is no login"):
        ServerConfig(use_tls=False, **options)


def option_of(name: str, value: Any) -> dict[str, Any]:
    return {name.replace("-", "_"): value}


@pytest.mark.parametrize("option", ["allow-users", "allow-from"])
def test_a_list_of_nothing_does_not_let_everybody_in(option: str) -> None:
    for text in ("", " ,"):
        with pytest.raises(ConfigurationError, match="names no user"):
            ServerConfig(**option_of(option, text))


@pytest.mark.parametrize("option", ["bind", "auth-file", "log-file", "spool-dir"])
def test_an_empty_text_is_no_value(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--{option}: it is empty"):
        ServerConfig(**option_of(option, ""))


def test_numbers_have_an_upper_bound_where_a_larger_one_would_break_later() -> None:
    for name in ("login_timeout", "proof_timeout", "silence_timeout"):
        with pytest.raises(ConfigurationError, match="at most a day"):
            ServerConfig(**option_of(name, 1e300))
    with pytest.raises(ConfigurationError, match="--slots 1000000: "):
        ServerConfig(slots=10**6)
    for count in (1, 10**9):
        with pytest.raises(ConfigurationError, match="--log-files"):
            ServerConfig(log_files=count)
