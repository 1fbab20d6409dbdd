import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pconnect.errors import UnreadableValueError
from pconnect.files.listing import FileFacts
from pconnect.files.partial_file import FileSource, FileTarget, RunningHash, part_of

CONTENTS = bytes(range(256)) * 40


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def target_at(path: Path, contents: bytes = CONTENTS, mode: int = 0o640) -> FileTarget:
    return FileTarget(path, FileFacts("", len(contents), mode, 10**18), is_durable=True)


def digest(contents: bytes) -> bytes:
    found = RunningHash()
    found.update(contents)
    return found.digest()


def test_a_target_is_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("before")
    target = target_at(path, mode=0o4751)
    assert target.offers() == []
    target.write(0, CONTENTS[:1000], None)
    assert path.read_text() == "before"
    assert part_of(path).stat().st_mode & 0o777 == 0o600
    target.write(1000, CONTENTS[1000:], digest(CONTENTS))
    assert path.read_bytes() == CONTENTS
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_mtime_ns) == (0o751, 10**18)
    assert names_in(tmp_path) == ["x"]


def test_an_empty_file(tmp_path: Path) -> None:
    target = target_at(tmp_path / "x", b"")
    target.write(0, b"", digest(b""))
    assert (tmp_path / "x").read_bytes() == b""


def test_a_part_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(len(CONTENTS)))
    broken = target_at(path)
    broken.write(0, CONTENTS[:1000], None)
    broken.close()
    target = target_at(path)
    whole, part = target.offers()
    assert whole == (len(CONTENTS), digest(bytes(len(CONTENTS))), False)
    assert part == (1000, digest(CONTENTS[:1000]), True)
    target.write(1000, CONTENTS[1000:], digest(CONTENTS))
    assert path.read_bytes() == CONTENTS
    assert target_at(path).offers() == [(len(CONTENTS), digest(CONTENTS), False)]


def test_a_part_that_is_whole_needs_no_more(tmp_path: Path) -> None:
    part_of(tmp_path / "x").write_bytes(CONTENTS)
    target = target_at(tmp_path / "x")
    assert target.offers() == [(len(CONTENTS), digest(CONTENTS), True)]
    target.write(len(CONTENTS), b"", digest(CONTENTS))
    assert (tmp_path / "x").read_bytes() == CONTENTS


def test_a_part_of_something_else_is_begun_anew(tmp_path: Path) -> None:
    part_of(tmp_path / "x").write_bytes(bytes(10 * len(CONTENTS)))
    target = target_at(tmp_path / "x")
    assert target.offers() == []
    target.write(0, CONTENTS, digest(CONTENTS))
    assert (tmp_path / "x").read_bytes() == CONTENTS


def test_a_part_that_was_changed_after_the_offer(tmp_path: Path) -> None:
    part_of(tmp_path / "x").write_bytes(CONTENTS[:1000])
    target = target_at(tmp_path / "x")
    target.offers()
    part_of(tmp_path / "x").write_bytes(CONTENTS[:900])
    with pytest.raises(OSError, match="changed meanwhile"):
        target.write(1000, CONTENTS[1000:], digest(CONTENTS))
    target.close()


def test_other_contents_than_were_sent(tmp_path: Path) -> None:
    target = target_at(tmp_path / "x")
    with pytest.raises(UnreadableValueError, match="is not the sent data"):
        target.write(0, bytes(len(CONTENTS)), digest(CONTENTS))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("offset", "data", "told"),
    [(5, b"x", None), (0, CONTENTS + b"x", None), (0, CONTENTS, None), (0, b"x", b"digest")],
)
def test_what_does_not_come_next(tmp_path: Path, offset: int, data: bytes, told: bytes | None) -> None:
    target = target_at(tmp_path / "x")
    target.write(0, b"", None)
    with pytest.raises(UnreadableValueError, match="x: the peer did not send the next bytes"):
        target.write(offset, data, told)
    target.close()


def test_a_file_is_kept_as_it_was_offered(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(CONTENTS)
    target = target_at(path)
    target.offers()
    target.keep()
    assert (path.stat().st_mode & 0o777, path.stat().st_mtime_ns) == (0o640, 10**18)
    with pytest.raises(OSError, match="changed meanwhile"):
        target.keep()


def test_folders_and_links_in_the_place(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder is a folder"):
        target_at(tmp_path / "folder").offers()
    (tmp_path / "other").write_bytes(CONTENTS)
    (tmp_path / "link").symlink_to("other")
    target = target_at(tmp_path / "link", b"new")
    assert target.offers() == []
    target.write(0, b"new", digest(b"new"))
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "other").read_bytes() == CONTENTS
    part_of(tmp_path / "y").symlink_to("other")
    with pytest.raises(OSError, match=r"\.y\."):
        target_at(tmp_path / "y").write(0, b"x", None)
    assert (tmp_path / "other").read_bytes() == CONTENTS


def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    first, second = target_at(tmp_path / "x"), target_at(tmp_path / "x")
    first.write(0, CONTENTS[:5000], None)
    assert second.offers() == []
    second.write(0, CONTENTS[:7000], None)
    first.write(5000, CONTENTS[5000:], digest(CONTENTS))
    assert (tmp_path / "x").read_bytes() == CONTENTS
    second.write(7000, CONTENTS[7000:], digest(CONTENTS))
    assert names_in(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == CONTENTS


def test_of_two_at_once_the_second_leaves_nothing(tmp_path: Path) -> None:
    first, second = target_at(tmp_path / "x"), target_at(tmp_path / "x")
    first.write(0, CONTENTS[:5000], None)
    second.write(0, CONTENTS[:7000], None)
    second.close()
    first.close()
    assert names_in(tmp_path) == [part_of(tmp_path / "x").name]


def test_long_names(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)
    target = target_at(path)
    target.write(0, CONTENTS[:5], None)
    target.close()
    assert target_at(path).offers() == [(5, digest(CONTENTS[:5]), True)]


def fill(path: str) -> None:
    """Write more than the file size limit allows. Run this in a separate process."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    target = target_at(Path(path))
    target.write(0, CONTENTS[:4000], None)
    try:
        target.write(4000, CONTENTS[4000:], digest(CONTENTS))
    except OSError as error:
        target.close()
        print(error.filename, names_in(Path(path).parent))


def test_without_room_the_part_is_removed(tmp_path: Path) -> None:
    code = f"from tests.pconnect.files.test_partial_file import fill; fill({str(tmp_path / 'x')!r})"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stdout == f"{tmp_path / 'x'} []\n"


CONTENTS = bytes(range(256)) * 40


def source_of(path: Path) -> FileSource:
    facts = path.stat()
    return FileSource(path, FileFacts("", facts.st_size, facts.st_mode & 0o777, facts.st_mtime_ns))


def read(source: FileSource, offset: int, length: int) -> tuple[bytes, bytes | None]:
    data, told = source.read(offset, length)
    return bytes(data), told


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
