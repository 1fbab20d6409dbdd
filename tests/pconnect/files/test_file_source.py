from pathlib import Path

import pytest

from pconnect.files.file_source import FileSource, RunningHash
from pconnect.files.listing import FileFacts

CONTENTS = bytes(range(256)) * 40


def source_of(path: Path) -> FileSource:
    facts = path.stat()
    return FileSource(path, FileFacts("", facts.st_size, facts.st_mode & 0o777, facts.st_mtime_ns))


def read(source: FileSource, offset: int, length: int) -> tuple[bytes, bytes | None]:
    data, told = source.read(offset, length)
    return bytes(data), told


def digest(contents: bytes) -> bytes:
    found = RunningHash()
    found.update(contents)
    return found.digest()


def test_a_source_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(CONTENTS)
    source = source_of(path)
    assert read(source, 0, 1000) == (CONTENTS[:1000], None)
    assert source.digest(3000) == digest(CONTENTS[:3000])
    assert read(source, 3000, 4000) == (CONTENTS[3000:7000], None)
    assert read(source, 7000, 3240) == (CONTENTS[7000:], digest(CONTENTS))
    assert read(source, 10240, 0) == (b"", digest(CONTENTS))
    assert source.digest(5) == digest(CONTENTS[:5])
    assert read(source, 0, 10240) == (CONTENTS, digest(CONTENTS))
    source.close()


@pytest.mark.parametrize("change", [b"", CONTENTS + b"more"])
def test_a_source_that_changes_is_an_error(tmp_path: Path, change: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(CONTENTS)
    source = source_of(path)
    read(source, 0, 1000)
    path.write_bytes(change)
    with pytest.raises(OSError, match="x was changed while it was sent"):
        read(source, 1000, 9240)
    source.close()
