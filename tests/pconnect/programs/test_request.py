"""Requests for a private folder, valid and invalid."""

from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import ConfigurationError
from pconnect.programs.request import folder_request, to_bytes


def test_what_is_sent() -> None:
    assert folder_request(False, None, None) == {}
    assert folder_request(True, None, None) == {"folder": True}
    assert folder_request(True, {"in/a": (0o4755, b"x")}, ["*.o"]) == {
        "folder": True,
        "files": {"in/a": [0o755, b"x"]},
        "outputs": ["*.o"],
    }
    assert folder_request(True, {}, "*.o")["outputs"] == ["*.o"]
    assert [to_bytes("x", value) for value in ("a", b"\xff", Path("/b"))] == [b"a", b"\xff", b"/b"]


@pytest.mark.parametrize("value", [5, None, "a\0b", b"\0"])
def test_what_cannot_be_sent(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="the word: "):
        to_bytes("the word", value)


def test_names_outside_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"files: '\.\./a' is not the name of a file inside a folder"
    ):
        folder_request(True, {"../a": (0, b"")}, None)
