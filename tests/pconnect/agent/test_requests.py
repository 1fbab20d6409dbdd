import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.agent.requests import MAX_REQUEST_BYTES, Incoming, Request, RequestError
from pconnect.prun.fast_client import REQUEST

CONTENTS = b"\0".join([b"/home", b"010110", b"27", b"2", b"ls", b"\xff", b"A=b=c", b"B="])
WHOLE = REQUEST + b"%d\n" % len(CONTENTS) + CONTENTS
EXPECTED = Request(
    b"/home",
    (False, True, False),
    (True, True, False),
    ("ls", "\udcff"),
    {b"A": b"b=c", b"B": b""},
    0o027,
)


@given(st.lists(st.integers(1, 40), max_size=30))
def test_pieces_of_any_size_give_the_same(sizes: list[int]) -> None:
    incoming, start = Incoming(), 0
    for size in [*sizes, len(WHOLE)]:
        if start < len(WHOLE):
            incoming.feed(WHOLE[start : start + size])
        start += size
    assert incoming.request == EXPECTED


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_waited_for(data: bytes) -> None:
    incoming = Incoming()
    try:
        incoming.feed(data)
    except RequestError:
        return
    assert incoming.request is None


@pytest.mark.parametrize(
    "data",
    [
        b"prun 2 5\n",
        REQUEST + b"%d\n" % (MAX_REQUEST_BYTES + 1),
        REQUEST + b"3\nabc",
        REQUEST + b"9" * 70,
        WHOLE + b"x",
    ],
)
def test_what_no_client_says_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        Incoming().feed(data)


def test_the_folder_is_called_as_the_shell_calls_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    real, link = bytes(tmp_path / "real"), bytes(tmp_path / "link")

    def folder(pwd: bytes) -> bytes:
        return Request(real, (False,) * 3, (False,) * 3, ("ls",), {b"PWD": pwd}).folder

    assert folder(link) == link
    assert folder(b"/") == folder(b"link") == folder(bytes(tmp_path / "none")) == real


def test_a_prun_of_another_version_learns_how_to_end_the_agent() -> None:
    with pytest.raises(
        RequestError, match=f"have different versions; end the agent with: kill {os.getpid()}$"
    ):
        Incoming().feed(b"prun 0 12\n")
