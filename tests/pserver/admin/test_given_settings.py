"""The given settings of a server, passed to its daemon and read again there."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pserver.admin.given_settings import _plain, hand_over, settings_reader, take_over, whole_variables
from pserver.config.server_config import ServerConfig
from srp_tools.errors import ConfigurationError
from srp_tools.private_files import server_folder
from tests.support.places import use_private_places


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_private_places(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)


GIVEN: dict[str, Any] = {
    "slots": np.int64(4), "allow_users": ("alice", "b,c"), "auth_file": Path("tpasswd"), "use_tls": True,
    "keep_results": np.float64(2.5), "spool_dir": None, "max_startups": "8", "allow_from": [],
}  # fmt: skip


def test_what_is_handed_over_arrives_with_whole_paths(tmp_path: Path) -> None:
    given, path, log_file = take_over(hand_over(GIVEN, Path("own.toml"), Path("/var/log/x")))
    assert given == {
        "slots": 4, "allow_users": ["alice", "b,c"], "auth_file": str(tmp_path / "tpasswd"), "use_tls": True,
        "keep_results": 2.5, "spool_dir": None, "max_startups": "8", "allow_from": [],
    }  # fmt: skip
    assert (path, log_file) == (tmp_path / "own.toml", Path("/var/log/x"))
    assert ServerConfig(**given) == ServerConfig(**GIVEN | {"auth_file": str(tmp_path / "tpasswd")})
    with pytest.raises(ConfigurationError, match="not a valid value for a setting"):
        hand_over({"slots": object()}, None, Path("/x"))


def test_all_settings_of_a_server_can_be_handed_over() -> None:
    config = ServerConfig(name="one", allow_users=("alice",), spool_dir=Path("/spool"))
    given, path, _ = take_over(hand_over(vars(config), None, Path("/x")))
    assert path is None
    assert ServerConfig(**given) == dataclasses.replace(config, spool_dir="/spool")


def test_the_file_and_the_environment_of_the_start_are_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = server_folder() / "pserver.toml"
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.write_text("slots = 1\nmax_failures = 1\nlogin_processes = 1\n")
    file.chmod(0o600)
    monkeypatch.setenv("PSERVER_MAX_FAILURES", "2")
    read = settings_reader({"login_processes": 3}, None, tmp_path / "log")
    monkeypatch.setenv("PSERVER_MAX_FAILURES", "9")  # the number now belongs to another program
    first = read()
    assert (first.slots, first.max_failures, first.login_processes) == (1, 2, 3)
    assert first.log_file == tmp_path / "log"
    file.write_text(f'slots = 5\nlog_file = "{tmp_path}/other"\n')
    assert (read().slots, read().log_file) == (5, tmp_path / "other")
    file.write_text("slots = 5\nslot = 6\n")
    with pytest.raises(ConfigurationError, match=r"pserver\.toml, line 2.*slots"):
        read()


def test_paths_in_variables_are_whole_for_another_folder(tmp_path: Path) -> None:
    found = whole_variables({"PSERVER_LOG_FILE": "log", "PSERVER_SLOTS": "1", "PSERVER_AUTH_FILE": ""})
    assert found == {"PSERVER_LOG_FILE": f"{tmp_path}/log", "PSERVER_SLOTS": "1", "PSERVER_AUTH_FILE": ""}
    assert os.getcwd() == str(tmp_path)  # noqa: PTH109 - the fixture's


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([5]), [5]),
        (np.array(5), 5),
        (np.int64(5), 5),
        (np.float32(0.5), 0.5),
    ],
)
def test_numbers_and_arrays_of_numpy_are_handed_over(value: object, plain: object) -> None:
    found = json.loads(json.dumps(value, default=_plain))
    assert (found, type(found)) == (plain, type(plain))
