import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.errors import ConfigurationError, UnreadableValueError
from pconnect.files.listing import PART_ENDING, FileFacts, Listing, check_sizes, is_inner_name, list_tree


def names(path: Path) -> list[str]:
    return sorted(facts.name for facts in list_tree(path).files)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text("true")
    path.chmod(0o750)
    os.utime(path, ns=(1, 123456789))
    assert list_tree(path) == Listing(False, [], [FileFacts("", 4, 0o750, 123456789)])


def test_a_folder_with_all_below_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "empty").mkdir(parents=True)
    for name in (".hidden", "a/ b\n'", "a/é", "a/" + os.fsdecode(b"\xff")):
        (tmp_path / name).write_text(name, errors="surrogateescape")
    (tmp_path / f".x{PART_ENDING}").write_text("left")
    listing = list_tree(tmp_path)
    assert listing.folders == ["a", "a/empty"]
    assert sorted(facts.name for facts in listing.files) == [".hidden", "a/ b\n'", "a/é", "a/\udcff"]
    assert Listing.unpack(listing.pack()) == listing
    with pytest.raises(ConfigurationError, match="interrupted transfer"):
        list_tree(tmp_path / f".x{PART_ENDING}")


def test_links_count_as_what_they_lead_to(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "inside").mkdir(parents=True)
    (root / "inside" / "file").write_text("12")
    (tmp_path / "elsewhere").write_text("345")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to("inside")
    listing = list_tree(root)
    assert {facts.name: facts.size for facts in listing.files} == {
        "again/file": 2, "inside/file": 2, "link": 3,
    }  # fmt: skip
    (tmp_path / "other").symlink_to(root)
    assert list_tree(tmp_path / "other") == listing


def test_links_that_lead_out_or_round(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    (root / "a" / "out").symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match=r"a/out is a link to the folder .*, which is not in"):
        list_tree(root)
    (root / "a" / "out").unlink()
    (root / "a" / "x").symlink_to("../b")
    (root / "b" / "y").symlink_to("../a")
    with pytest.raises(ConfigurationError, match="folder that contains it"):
        list_tree(root)
    (root / "b" / "y").unlink()
    (root / "a" / "lost").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match="a/lost"):
        list_tree(root)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigurationError, match="pipe is neither a file nor a folder"):
            list_tree(path)
    with pytest.raises(FileNotFoundError, match="none"):
        list_tree(tmp_path / "none")


def test_folders_deeper_than_calls_should_be_nested(tmp_path: Path) -> None:
    deepest = tmp_path.joinpath(*"d" * 200)
    deepest.mkdir(parents=True)
    assert len(list_tree(tmp_path).folders) == 200
    (deepest / "d").mkdir()
    with pytest.raises(ConfigurationError, match="has folders nested more than 200 levels deep"):
        list_tree(tmp_path)


def test_sizes_are_limited(tmp_path: Path) -> None:
    for name, size in (("a", 10), ("b", 11), ("c", 12)):
        (tmp_path / name).write_bytes(bytes(size))
    listing = list_tree(tmp_path)
    check_sizes(listing, tmp_path, 0)
    check_sizes(listing, tmp_path, 12)
    with pytest.raises(ConfigurationError, match=r"b \(and 1 more\) has 11 bytes, .* 10 bytes"):
        check_sizes(listing, tmp_path, 10)
    with pytest.raises(ConfigurationError, match=r"/c has 12 bytes"):
        check_sizes(list_tree(tmp_path / "c"), tmp_path / "c", 11)


FACTS = [5, 0o644, 0]


@pytest.mark.parametrize(
    "packed",
    [
        None,
        [True, []],
        [True, ["text"], []],
        [True, [], [[b"a", -1, 0, 0]]],
        [True, [], [[b"a", 1, 0, 2**63]]],
        [True, [], [[b"a", 1]]],
        [True, [], [[b"a", *FACTS], [b"a", *FACTS]]],
        [True, [b"a"], [[b"a", *FACTS]]],
        [False, [], []],
        [False, [], [[b"../a", *FACTS]]],
        [False, [b"a"], [[b"", *FACTS]]],
        [True, [b"a"] * 200_001, []],
        [True, [b"/".join([b"a"] * 201)], []],
        *(
            [True, [], [[name, *FACTS]]]
            for name in (b"", b"..", b"a/../../b", b"/etc/passwd", b"a//b", b"a\0b")
        ),
        *([True, [name], []] for name in (b"..", b"/", b".")),
    ],
)
def test_a_listing_that_a_peer_may_not_send(packed: Any) -> None:
    with pytest.raises(UnreadableValueError):
        Listing.unpack(packed)


@given(st.text("ab./\0", max_size=8))
def test_an_inner_name_stays_inside(name: str) -> None:
    if is_inner_name(name):
        joined = os.path.normpath(f"/folder/{name}")
        assert joined == f"/folder/{name}"
        assert joined != "/folder"
