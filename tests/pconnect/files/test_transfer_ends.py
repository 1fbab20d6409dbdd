"""Both ends of a transfer in this process. They exchange plain values."""

import os
from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import ConfigurationError, UnreadableValueError
from pconnect.files.listing import FileFacts, Listing, list_tree
from pconnect.files.partial_file import part_of
from pconnect.files.transfer_ends import Agreement, Incoming, Outgoing
from pconnect.values.decoder import unpack
from pconnect.values.encoder import pack

BATCH_BYTES = 100_000


def passed(value: Any) -> Any:
    """Return a value as it arrives at the other end."""
    return unpack(pack(value))


def move(source: Path, target: Path, *, stop_after: int | None = None) -> int:
    """Transfer a file or folder; return the number of bytes that had to be sent."""
    outgoing = Outgoing(source, list_tree(source))
    incoming = Incoming(target, Listing.unpack(passed(outgoing.listing.pack())), is_durable=False)
    offers = passed(incoming.offers())
    agreement = Agreement.of(offers, passed(outgoing.digests(offers)))
    incoming.keep(agreement.kept)
    moved = 0
    for number, batch in enumerate(agreement.batches(outgoing.listing, BATCH_BYTES)):
        if number == stop_after:
            break
        pieces = passed(outgoing.read(passed(batch)))
        moved += sum(len(data) for _, _, data, _ in pieces)
        incoming.write(pieces)
    else:
        assert moved == agreement.left(outgoing.listing)
    for end in (outgoing, incoming):
        end.close()
    return moved


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "a" / "empty").mkdir(parents=True)
    for name, size in (
        ("large", 2 * BATCH_BYTES + 77),
        ("a/nothing", 0),
        ("a/small", 5),
        ("exact", BATCH_BYTES),
    ):
        (root / name).write_bytes(os.urandom(size))
    for number in range(700):
        (root / "a" / f"{number}").write_bytes(b"%d" % number)
    return root


def test_a_folder_goes_over_once(tmp_path: Path, tree: Path) -> None:
    total = sum(len(data or b"") for data in contents(tree).values())
    target = tmp_path / "target" / "deep"
    assert move(tree, target) == total
    assert contents(target) == contents(tree)
    assert move(tree, target) == 0
    (tree / "a" / "small").write_bytes(b"12345")
    (tree / "a" / "small").chmod(0o755)
    (target / "own").write_text("stays")
    assert move(tree, target) == 5
    (target / "own").unlink()
    assert contents(target) == contents(tree)
    assert os.access(target / "a" / "small", os.X_OK)


def test_what_was_broken_off_goes_on(tmp_path: Path, tree: Path) -> None:
    target = tmp_path / "target"
    total = sum(len(data or b"") for data in contents(tree).values())
    first = move(tree, target, stop_after=2)
    assert first == 2 * BATCH_BYTES
    (tree / "large").touch()  # only the contents matter
    assert move(tree, target) == total - first
    assert contents(target) == contents(tree)


def test_changed_contents_are_begun_anew(tmp_path: Path) -> None:
    source, target = tmp_path / "x", tmp_path / "y"
    source.write_bytes(bytes(2 * BATCH_BYTES))
    move(source, target, stop_after=1)
    source.write_bytes(b"1" * (2 * BATCH_BYTES))
    assert move(source, target) == 2 * BATCH_BYTES
    assert target.read_bytes() == source.read_bytes()
    assert not part_of(target).exists()


def test_batches_have_a_limit(tree: Path) -> None:
    listing = list_tree(tree)
    batches = list(Agreement((), ()).batches(listing, BATCH_BYTES))
    assert all(sum(length for *_, length in batch) <= BATCH_BYTES for batch in batches)
    assert len(batches) < 10


def test_a_link_in_the_target_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "a").symlink_to(tmp_path / "outside")
    for folders in ([], ["a"], ["a/b"]):
        listing = Listing(True, folders, [FileFacts("a/b/c", 1, 0o600, 0)])
        with pytest.raises(ConfigurationError, match="a is a link"):
            Incoming(target, listing, is_durable=False)
    assert contents(tmp_path / "outside") == {}


def test_more_than_the_disk_has_room_for(tmp_path: Path) -> None:
    listing = Listing(False, [], [FileFacts("", 2**60, 0o600, 0)])
    with pytest.raises(OSError, match=f"the transfer needs {2**60} bytes, but only") as caught:
        Incoming(tmp_path / "x", listing, is_durable=False).offers()
    assert caught.value.filename == str(tmp_path / "x")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "offers",
    [
        None,
        [5],
        *(
            [[index, size, b"", True]]
            for index, size in ((1, 0), (-1, 0), (0, 4), (0, -1), ("0", 1), (True, 0))
        ),
        [[0, 1, b"", 1]],
    ],
)
def test_offers_that_are_none(tmp_path: Path, offers: Any) -> None:
    (tmp_path / "x").write_text("123")
    with pytest.raises(UnreadableValueError):
        Outgoing(tmp_path / "x", list_tree(tmp_path / "x")).digests(offers)


@pytest.mark.parametrize("digests", [None, [], [b"1", b"2"]])
def test_digests_that_are_none(digests: Any) -> None:
    with pytest.raises(UnreadableValueError):
        Agreement.of([[0, 1, b"1", True]], digests)


@pytest.mark.parametrize(
    "piece", [None, [0, 0, "text", None], *([index, 0, b"", None] for index in (1, -1, True))]
)
def test_pieces_that_are_none(tmp_path: Path, piece: Any) -> None:
    incoming = Incoming(tmp_path / "x", Listing(False, [], [FileFacts("", 3, 0o600, 0)]), is_durable=False)
    with pytest.raises(UnreadableValueError):
        incoming.write([piece])
    assert contents(tmp_path) == {}
