import contextlib
import json
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pserver.pool.server_key import KeyFile
from tests.support.waiting import DEADLINE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "pool" / "key.json"
    file = KeyFile(path)
    file.keep()
    file.close()
    return path


def id_in(path: Path) -> str:
    with contextlib.closing(KeyFile(path)) as file:
        return file.key.id


def test_a_key_that_is_kept_makes_the_same_server(path: Path) -> None:
    with contextlib.closing(KeyFile(path)) as first:
        secret = first.announcing_secret()
    second = KeyFile(path)
    assert first.key.id == second.key.id and secret == second.announcing_secret()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    before = path.read_text()
    second.keep()
    second.close()
    assert path.read_text() == before and secret not in before


def test_two_servers_that_run_with_one_folder_are_two(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As with two containers that share a volume."""
    own = id_in(path)
    hold = "import sys; from pathlib import Path; from pserver.pool.server_key import KeyFile; file = KeyFile(Path("
    code = f"{hold}sys.argv[1])); print(file.key.id, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == f"{own}\n"
        before = path.read_text()
        file = KeyFile(path)
        assert file.key.id != own and "another server uses the key" in caplog.text
        file.keep()
        assert path.read_text() == before
        other.communicate(timeout=DEADLINE)
    assert id_in(path) == own


def test_without_one_each_is_another(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert id_in(path) != id_in(path) and not path.exists()


def test_a_copy_is_another_server_also_on_a_machine_that_says_it_is_the_same(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = id_in(path)
    copy = shutil.copytree(path.parent, tmp_path / "copy") / path.name
    assert id_in(copy) != own and "a copy" in caplog.text
    path.rename(copy)
    assert id_in(copy) == own, "a moved file is not a copy"


def test_a_copy_is_another_server_on_a_machine_of_another_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = id_in(path)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    other = KeyFile(path)
    assert other.key.id != own
    other.keep()
    other.close()
    assert id_in(path) == other.key.id


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
    file.close()
    assert id_in(path) == file.key.id


def test_others_must_not_read_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = id_in(path)
    path.chmod(0o640)
    assert id_in(path) != own and "chmod 600" in caplog.text


def test_half_a_file_is_no_key(path: Path) -> None:
    own, words = id_in(path), json.loads(path.read_text())
    del words["file"]
    path.write_text(json.dumps(words))
    assert id_in(path) != own
