from typing import Any

import pytest

from pconnect.commands.remote_repr import RemoteRepr
from pconnect.errors import ProtocolError


def test_pictures_are_encoded_for_a_notebook() -> None:
    shown = RemoteRepr.read([{"text/plain": "<figure>", "image/png": b"\x89PNG"}, {}])
    assert shown is not None
    assert repr(shown) == "<figure>"
    assert not shown.is_text
    assert shown._repr_mimebundle_() == ({"text/plain": "<figure>", "image/png": "iVBORw=="}, {})


def test_nothing_is_run_in_the_page() -> None:
    shown = RemoteRepr(
        {"text/plain": "x", "text/html": "<b onclick='f()'>x</b>", "application/javascript": "f()"}, {}
    )
    assert shown.data == {"text/plain": "x", "text/html": "<b>x</b>"}


def test_no_value_is_shown_as_nothing() -> None:
    assert RemoteRepr.read(None) is None


@pytest.mark.parametrize("value", [1, [], [{}, {}], [{"text/plain": 1}, {}], [{"text/plain": "x"}, []]])
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(ProtocolError):
        RemoteRepr.read(value)
