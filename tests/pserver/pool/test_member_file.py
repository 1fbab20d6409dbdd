import json
import stat
from pathlib import Path

import pytest

from pserver.pool.member_file import MemberFile
from pserver.pool.member_list import MemberList, Whence


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "state" / "one" / "kept"


def filled(kept: Path) -> MemberList:
    file = MemberFile(kept, 0.0)
    words = {"id": "11" * 16, "name": "beta", "addresses": [], "slots": 2, "interval": 30, "at": 1.0,
             "secret": "5a" * 32}  # fmt: skip
    file.members.announce(words, Whence("member+pool", "10.0.0.2", "10.0.0.2"), 0.0)
    file.members.is_changed = True
    file.write_if_changed()
    file.key.close()
    return file.members


def read(kept: Path) -> MemberList:
    file = MemberFile(kept, 5.0)
    file.key.close()
    return file.members


def test_a_server_is_the_same_after_a_restart(kept: Path) -> None:
    MemberFile(kept, 0.0).write_if_changed()
    assert read(kept).own != read(kept).own and not kept.parent.exists(), "nothing was stored"
    members = filled(kept)
    assert not members.is_changed
    assert read(kept).own == members.own and read(kept).announced.keys() == members.announced.keys()
    [path] = kept.parent.rglob("members.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_is_wrong_in_it_costs_neither_the_id_nor_the_joined_hosts(
    kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = MemberFile(kept, 0.0)
    file.members.join("gamma", given=False)
    file.write_if_changed()
    file.key.close()
    [path] = kept.parent.rglob("members.json")
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | {"members": [{"addresses": ["10.0.0.5:True"]}]}))
    members = read(kept)
    assert members.own == file.members.own and list(members.joined) == ["gamma"]
    assert "skipped" in caplog.text and str(path) in caplog.text


@pytest.mark.parametrize("content", ["", "{", '{"id": 5}', "ÿ" * 100, "[]"], ids=range(5))
def test_a_file_that_cannot_be_used_is_left_aside(
    kept: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    filled(kept)
    [path] = kept.parent.rglob("members.json")
    path.write_text(content)
    assert read(kept).announced == {}
    assert str(path) in caplog.text
    filled(kept)
    assert len(read(kept).announced) == 1


def test_others_must_not_have_written_it(kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(kept)
    [path] = kept.parent.rglob("members.json")
    path.chmod(0o666)
    assert read(kept).announced == {}
    assert "chmod 600" in caplog.text


def test_a_folder_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "pool").write_text("no folder")
    filled(tmp_path / "kept")
    assert "lost when this server ends" in caplog.text
