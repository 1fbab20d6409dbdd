"""The error that the client gets for a value that cannot be sent."""

import threading

import pytest

from pconnect.commands.function_pickling import pickle_value
from pconnect.errors import UnsupportedValueError
from pserver.engine.unsent_value import keep_unsent

ERROR = UnsupportedValueError("value[1][0]: cannot send it")


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        ("job", "net.submit(..., allow_pickle=True), net.map(..., allow_pickle=True)"),
        ("command", "net.eval(..., allow_pickle=True), net.call(..., allow_pickle=True)"),
    ],
)
def test_how_to_get_what_is_kept(kind: str, calls: str) -> None:
    kept: list[bytes] = []
    at_once = f"to send it by pickle, pass allow_pickle=True: {calls}"

    def keep(data: bytes) -> str:
        kept.append(data)
        return "too large" if len(kept) > 1 else ""

    assert str(keep_unsent(ERROR, [1j], kind, keep)) == (
        f"value[0]: cannot send it; its node keeps it, and {kind}.result(allow_pickle=True) fetches it; {at_once}"
    )
    assert kept == [pickle_value([1j])]
    assert (
        str(keep_unsent(ERROR, [1j], kind, keep))
        == f"value[0]: cannot send it; it was not kept: too large; {at_once}"
    )


def test_what_cannot_be_pickled_either() -> None:
    text = str(keep_unsent(ERROR, threading.Lock(), "job", lambda _: "never asked"))
    assert text.startswith("value[0]: cannot send it; nor can it be pickled: TypeError: cannot pickle ")
