"""Servers that something else asks."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from pserver.page.asked_servers import AskedServers
from srp_tools.errors import ConfigurationError
from tests.support.small_documents import document


class _Answer(NamedTuple):
    name: str
    document: Mapping[str, Any] | None
    error: str = ""


def ask(seconds: float, since: Mapping[str, float]) -> list[_Answer]:
    assert seconds > 0 and since == {"alpha": 3.0}
    return [_Answer("alpha", document()), _Answer("beta", None, "login refused")]


def test_what_they_say_is_reported() -> None:
    source = AskedServers(ask, lambda key, session: f"Ended {session} of {key}.")
    alpha, beta = asyncio.run(source.reports({"alpha": 3.0}))
    assert alpha.document == document() and (beta.document, beta.error) == (None, "login refused")
    assert source.can_stop and asyncio.run(source.stop("alpha", 7)) == "Ended 7 of alpha."


def test_without_a_way_to_stop_nothing_is_stopped() -> None:
    source = AskedServers(ask)
    assert not source.can_stop
    with pytest.raises(ConfigurationError, match="nothing here ends session 7"):
        asyncio.run(source.stop("alpha", 7))
