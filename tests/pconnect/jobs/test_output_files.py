"""The client's side of files that come with a job."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pconnect.errors import ProtocolError
from pconnect.jobs.output_files import unpack_outputs


def data(text: bytes) -> Any:
    return np.frombuffer(text, np.uint8)


def test_outputs_are_a_mapping_and_can_be_saved(tmp_path: Path) -> None:
    outputs = unpack_outputs({"a": [0o640, data(b"1")], "deep/b": [0o4755, data(b"")]})
    assert dict(outputs) == {"a": b"1", "deep/b": b""}
    assert repr(outputs) == "<outputs {'a': 1 bytes, 'deep/b': 0 bytes}>"
    (tmp_path / "a").write_text("old")
    paths = outputs.save(tmp_path)
    assert paths == [tmp_path / "a", tmp_path / "deep" / "b"]
    assert [path.stat().st_mode & 0o7777 for path in paths] == [0o640, 0o755]
    assert (tmp_path / "a").read_bytes() == b"1"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "deep"]


def test_a_failed_write_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        unpack_outputs({"a": [0o640, data(b"1")]}).save(tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]


@pytest.mark.parametrize(
    "files",
    [
        7,
        {"../a": [0o640, data(b"1")]},
        {"/a": [0o640, data(b"1")]},
        {b"a": [0o640, data(b"1")]},
        {"a": [0o640, b"1"]},
        {"a": [0o640, np.zeros(1)]},
        {"a": [0o640, np.zeros((1, 1), np.uint8)]},
        {"a": data(b"1")},
        {"a": ["rw", data(b"1")]},
    ],
)
def test_malformed_outputs_are_refused(files: Any) -> None:
    with pytest.raises(ProtocolError):
        unpack_outputs(files)
