import json
import shutil
import socket
import stat
from pathlib import Path

import pytest

from pserver.pool.server_key import KeyFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "pool" / "key.json"
    KeyFile(path).keep()
    return path


def test_a_key_that_is_kept_makes_the_same_server(path: Path) -> None:
    first, second = KeyFile(path), KeyFile(path)
    assert first.key.id == second.key.id and first.announcing_secret() == second.announcing_secret()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    before = path.read_text()
    first.keep()
    assert path.read_text() == before
    assert first.announcing_secret() not in before


def test_without_one_each_is_another(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert KeyFile(path).key.id != KeyFile(path).key.id and not path.exists()


def test_a_copy_is_another_server_also_on_a_machine_that_says_it_is_the_same(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = KeyFile(path).key.id
    copy = shutil.copytree(path.parent, tmp_path / "copy") / path.name
    assert KeyFile(copy).key.id != own and "a copy" in caplog.text
    path.rename(copy)
    assert KeyFile(copy).key.id == own, "one that was moved is no copy"


def test_a_copy_is_another_server_on_a_machine_of_another_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = KeyFile(path).key.id
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    other = KeyFile(path)
    assert other.key.id != own
    other.keep()
    assert KeyFile(path).key.id == other.key.id


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"seed": 5}', '{"seed": "00"}', "\xff" * 100], ids=range(6)
)
def test_a_file_that_cannot_be_used_is_in_the_log_and_written_anew(
    path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(content)
    file = KeyFile(path)
    assert str(path) in caplog.text
    file.keep()
    assert KeyFile(path).key.id == file.key.id


def test_others_must_not_read_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = KeyFile(path).key.id
    path.chmod(0o640)
    assert KeyFile(path).key.id != own and "chmod 600" in caplog.text


def test_half_a_file_is_no_key(path: Path) -> None:
    own, words = KeyFile(path).key.id, json.loads(path.read_text())
    del words["file"]
    path.write_text(json.dumps(words))
    assert KeyFile(path).key.id != own
