"""Which results are kept, and for how long."""

import errno
from pathlib import Path
from typing import Any

import pytest

from pserver.services import kept_results
from pserver.services.files import SessionFiles
from pserver.services.kept_results import KeptResults


@pytest.fixture
def kept(tmp_path: Path) -> KeptResults:
    return KeptResults(SessionFiles(tmp_path, 0))


def test_what_is_kept_is_private_and_there_for_others(kept: KeptResults, tmp_path: Path) -> None:
    assert kept.read("job", 1) is None
    assert kept.keep("job", 1, b"one") == kept.keep("command", 1, b"two") == ""
    other = KeptResults(SessionFiles(tmp_path, 0))
    assert [other.read(kind, 1) for kind in ("job", "command")] == [b"one", b"two"]
    assert (tmp_path / "results").stat().st_mode & 0o777 == 0o700


def test_the_oldest_go_first(kept: KeptResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_results, "MAX_RESULTS", 4)
    monkeypatch.setattr(kept_results, "MAX_BYTES", 20)

    def numbers() -> list[int]:
        return [number for number in range(10) if kept.read("job", number) is not None]

    for number in range(6):
        assert kept.keep("job", number, b"x") == ""
    assert numbers() == [2, 3, 4, 5]
    assert kept.keep("job", 6, bytes(18)) == ""
    assert numbers() == [4, 5, 6]
    assert kept.keep("job", 7, bytes(21)) == "its pickle takes 21 bytes, but the limit is 20"
    assert kept.keep("job", 7, bytes(11), 10) == "its pickle takes 11 bytes, but the limit is 10"
    assert numbers() == [4, 5, 6]
    assert len(list((tmp_path / "results").iterdir())) == 3


def test_a_disk_that_is_full(kept: KeptResults, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    assert kept.keep("job", 1, b"one") == "the server cannot write it: No space left on device"
