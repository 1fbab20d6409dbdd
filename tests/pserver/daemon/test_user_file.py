import logging
from pathlib import Path

import pytest

from pserver.daemon.user_file import UserFileWatch
from tests.support.servers import make_users


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_users(tmp_path)[1]


def looked(watch: UserFileWatch, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "pserver"):
        watch.look()
    return [record.getMessage() for record in caplog.records]


def test_faults_are_logged_once_for_each_change(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = UserFileWatch(path)
    assert looked(watch, caplog) == []
    with path.open("a") as file:
        file.write("bob\n")
    message = f"in the users' file: {path}, line 2: the line is not of the form user:verifier:salt:index"
    assert looked(watch, caplog) == [message]
    assert looked(watch, caplog) == []
    path.write_text(path.read_text().removesuffix("bob\n"))
    assert looked(watch, caplog) == []
    with path.open("a") as file:
        file.write("bob\n")
    assert looked(watch, caplog) == [message]


def test_what_keeps_all_users_out_is_an_error(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = UserFileWatch(path)
    conf = path.with_name("tpasswd.conf")
    conf.chmod(0o644)
    (message,) = looked(watch, caplog)
    assert "no user can log in: " in message
    assert f"chmod 600 {conf}" in message
    conf.chmod(0o600)
    assert looked(watch, caplog) == []
    path.unlink()
    (message,) = looked(watch, caplog)
    assert f"no user can log in: there is no file {path}" in message
    assert looked(watch, caplog) == []


def test_another_kind_of_file_does_not_fill_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with path.open("a") as file:
        file.write("no user\n" * 1000)
    messages = looked(UserFileWatch(path), caplog)
    assert len(messages) == 21
    assert messages[-1] == "in the users' file: 980 more lines cannot be used"


def test_without_users_there_is_nothing_to_look_at(caplog: pytest.LogCaptureFixture) -> None:
    assert looked(UserFileWatch(None), caplog) == []
