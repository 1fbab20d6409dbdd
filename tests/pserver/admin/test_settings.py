"""Settings from the command line, the environment and a file: precedence, and error messages for invalid ones."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pserver.admin.options import CommandParser, add_options, given_options, server_options
from pserver.admin.settings import as_toml, resolve, server_name
from pserver.config.server_config import ServerConfig
from srp_tools.errors import ConfigurationError
from srp_tools.private_files import server_folder

#: An invalid value of each setting, of a right or a wrong type, and an invalid value of its variable.
WRONG: Mapping[str, tuple[str, str]] = {
    "name": ('"a/b"', "a/b"),
    "orphan_timeout": ("-1", "x"),
    "cmd_port": ("70000", "70000"),
    "data_port": ('"12501"', "x"),
    "bind": ("7", "::1,"),
    "one_port": ("3", "perhaps"),
    "advertise": ('["gate:x"]', "gate:1:2:3"),
    "use_tcp": ("0", "perhaps"),
    "auth_file": ('"relative"', ""),
    "use_tls": ("0", "perhaps"),
    "max_startups": ('"64:30"', "0"),
    "login_processes": ("0", "0"),
    "proof_timeout": ("-1.0", "nan"),
    "login_timeout": ("0", "1e9"),
    "max_failures": ("-1", "-1"),
    "allow_users": ('["alice", 3]', ","),
    "admins": ('"a\\u200bb"', ","),
    "allow_from": ('["10.0.0.1/8"]', "nowhere"),
    "silence_timeout": ("true", "soon"),
    "log_file": ('""', ""),
    "log_size": ('"10 megabytes"', "-1"),
    "log_files": ("1", "1"),
    "log_format": ('"xml"', "xml"),
    "log_level": ('"loud"', "3"),
    "debug": ('"yes"', "very"),
    "service_start": ("17.5", "24:00"),
    "service_stop": ('"6 am"', "06:60"),
    "service_end": ("08:00:00", ""),
    "max_sessions": ("-1", "many"),
    "max_sessions_per_user": ("1.5", "-1"),
    "allow_exclusive": ("1", "all"),
    "serve": ("-1", "x"),
    "clean": ("1", "all"),
    "allow_root": ('"yes"', "maybe"),
    "account_map": ('"relative"', ""),
    "shared_account": ("1", "perhaps"),
    "join": ('["alpha:http"]', "alpha*2"),
    "announce_interval": ("0.5", "often"),
    "member_file": ('"relative"', ""),
    "slots": ("2.5", "many"),
    "max_file_size": ("-1", "64q"),
    "session_memory": ('"64m"', "255m"),
    "session_cpu": ('"1 hour"', "0.5"),
    "session_time": ("-1", "soon"),
    "session_processes": ("7", "-8"),
    "session_processors": ("0.001", "inf"),
    "session_files": ("63", "10k"),
    "session_output": ("true", "1x"),
    "session_disk": ("-1", "much"),
    "idle_timeout": ('"5w"', "-3"),
    "nice": ("20", "-1"),
    "job_time": ("inf", "1e4"),
    "job_memory": ('"1.5g"', "g"),
    "spool_dir": ("7", ""),
    "keep_results": ("0", "0"),
    "status_page": ("7", "lab"),
    "status_page_token": ("7", ""),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pserver.toml"


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


def test_each_setting_is_tried() -> None:
    assert set(WRONG) == set(server_options())


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_in_the_file_has_its_line(name: str, file: Path) -> None:
    write(file, f"# comment\n\n{name} = {WRONG[name][0]}\n")
    with pytest.raises(ConfigurationError) as caught:
        resolve({}, {}, file)
    text = str(caught.value)
    assert text.startswith(f"{file}, line 3: ") and name in text.removeprefix(f"{file}, line 3: ")
    assert "--" not in text


@pytest.mark.parametrize("name", WRONG)
def test_a_keyword_of_a_wrong_type_is_named(name: str) -> None:
    field = server_options()[name]
    wrong = [object(), b"1", {"a": 1}, [1], *([] if field.default is None else [None])]
    for value in wrong:
        with pytest.raises(ConfigurationError, match=f"^{name}=.*: it must be "):
            resolve({name: value}, {})


def test_keywords_may_have_other_types_of_numbers_and_lists() -> None:
    config = resolve(
        {
            "slots": np.int64(3), "keep_results": np.float32(2), "session_memory": "1g", "idle_timeout": "90m",
            "allow_users": np.array(["a", "b"]), "log_file": Path("/x"), "max_startups": 8, "spool_dir": None,
        },
        {},
    ).config  # fmt: skip
    assert (config.slots, config.session_memory, config.idle_timeout) == (3, 2**30, 5400.0)
    assert (config.allow_users, config.keep_results) == (("a", "b"), 2.0)
    with pytest.raises(ConfigurationError, match=r"^--session-memory: '1q' is not a size"):
        resolve({"session_memory": "1q"}, {})
    with pytest.raises(ConfigurationError, match=r"^--advertise: 'gate:x': the port must be"):
        resolve({"advertise": "gate:x"}, {})
    with pytest.raises(
        ConfigurationError, match=r"^max_startups=1.5: it must be a whole number, or a string$"
    ):
        resolve({"max_startups": 1.5}, {})


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_variable_is_named(name: str) -> None:
    variable, value = f"PSERVER_{name.upper()}", WRONG[name][1]
    with pytest.raises(ConfigurationError) as caught:
        resolve({}, {variable: value})
    assert str(caught.value).startswith(f"{variable}={value}: ")


def test_what_is_given_counts_before_variables_and_these_before_the_file(file: Path) -> None:
    write(file, 'slots = 1\nmax_failures = 1\nlog_files = 9\nallow_users = ["a", "b"]\n')
    settings = resolve({"slots": 3}, {"PSERVER_SLOTS": "2", "PSERVER_MAX_FAILURES": "2", "HOME": "/"}, file)
    config = settings.config
    assert (config.slots, config.max_failures, config.log_files) == (3, 2, 9)
    assert config.allow_users == ("a", "b")
    assert settings.sources == {
        "slots": "command line",
        "max_failures": "PSERVER_MAX_FAILURES",
        "log_files": f"{file}, line 3",
        "allow_users": f"{file}, line 4",
    }
    assert settings.path == file


def test_switches_can_be_undone(file: Path) -> None:
    write(file, "use_tls = false\nallow_root = true\n")
    parser = CommandParser()
    add_options(parser)

    def parse(*words: str) -> ServerConfig:
        return resolve(given_options(parser.parse_args(words)), {}, file).config

    assert (parse().use_tls, parse().allow_root) == (False, True)
    assert (parse("--tls").use_tls, parse("--no-allow-root").allow_root) == (True, False)
    assert resolve({}, {"PSERVER_USE_TLS": "Yes"}, file).config.use_tls


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("slot = 3\n", "line 1: there is no setting 'slot' (did you mean slots?)"),
        ("\n[zzz]\nslots = 3\n", "line 2: there is no setting 'zzz' (known: name, "),
        ("slots = \n", "(at line 1, column 9)"),
        (
            "cmd_port = 12501\n",
            "--cmd-port and --data-port are both 12501: give different ports, or --one-port; cmd_port is from ",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(file: Path, text: str, error: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({}, {}, write(file, text))
    assert error in str(caught.value) and str(file) in str(caught.value)


def test_an_unknown_variable_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"PSERVER_SLOT: .* \(did you mean PSERVER_SLOTS\?\)$"):
        resolve({}, {"PSERVER_SLOT": "3"})
    assert resolve({}, {"PSERVER_SHADOW": "gcc"}).sources == {}


def test_a_home_that_nobody_has_is_an_error_with_its_line(file: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"line 1: log_file ~nobody-has-this/log: give an absolute path"
    ):
        resolve({}, {}, write(file, 'log_file = "~nobody-has-this/log"\n'))


def test_only_settings_that_an_error_names_are_traced(file: Path) -> None:
    write(file, "cmd_port = 5000\ndata_port = 5000\ndebug = true\n")
    with pytest.raises(ConfigurationError) as caught:
        resolve({}, {}, file)
    assert "data_port is from" in str(caught.value) and "debug is from" not in str(caught.value)


def test_others_may_not_write_the_file(file: Path) -> None:
    write(file, "slots = 3\n").chmod(0o666)
    with pytest.raises(ConfigurationError, match="chmod"):
        resolve({}, {}, file)
    with pytest.raises(ConfigurationError, match="--config /nowhere/x: this file does not exist"):
        resolve({}, {}, Path("/nowhere/x"))


def test_the_default_file_counts_also_for_the_name_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert resolve({}, {}).path is None
    server_folder().mkdir(parents=True, mode=0o700)
    write(server_folder() / "pserver.toml", 'name = "gpu"\nlog_file = "~/log"\n')
    assert (server_name(None), server_name("other")) == ("gpu", "other")
    assert resolve({}, {}).config.log_file == Path("~/log").expanduser()


VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "name": st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True),
    "cmd_port": st.integers(1, 12499),
    "data_port": st.integers(12503, 65535),
    "bind": st.sampled_from([(), ("::1",), ("10.0.0.1", "::1")]),
    "auth_file": st.none()
    | st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1).map("/{}".format),
    "use_tls": st.just(True),
    "max_startups": st.integers(1, 9) | st.just("3:40:500"),
    "login_processes": st.integers(1, 99),
    "max_failures": st.integers(0, 99),
    "allow_users": st.lists(
        st.from_regex(r"[a-zäßé][a-z0-9ñ ._-]{0,9}[a-z]", fullmatch=True), max_size=3
    ).map(tuple),
    "allow_from": st.lists(st.ip_addresses().map(str), max_size=3).map(tuple),
    "log_size": st.integers(0, 2**62),
    "allow_root": st.booleans(),
    "slots": st.none() | st.integers(0, 99),
    "keep_results": st.floats(1e-9, 1e300),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_what_is_saved_gives_the_same_server_elsewhere(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    config = ServerConfig(**values)
    text, left_out = as_toml(config)
    file = write(tmp_path_factory.mktemp("saved") / "pserver.toml", text)
    there = resolve({}, {}, file).config
    wanted = dataclasses.asdict(config) | {name: getattr(ServerConfig, name) for name in ("name", "bind")}
    shown = {
        name: str(value) if name == "auth_file" and value else value
        for name, value in dataclasses.asdict(there).items()
    }
    assert shown == wanted
    assert set(left_out) == {
        name for name in ("name", "bind") if getattr(config, name) != getattr(ServerConfig, name)
    }
