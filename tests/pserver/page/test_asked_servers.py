"""The adapter for other sources of servers."""

import asyncio
from collections.abc import Mapping

from pserver.ctl.sources import Answer
from pserver.page.asked_servers import AskedServers
from tests.support.small_documents import document


class Asking:
    """A source with one server that answers, and one that does not."""

    def ask(self, seconds: float, since: Mapping[str, float] | None = None) -> list[Answer]:
        assert seconds > 0 and since == {"alpha": 3.0}
        return [Answer("alpha", document()), Answer("beta", None, "login refused")]

    def stop(self, name: str, session: int) -> str:
        return f"Ended {session} of {name}."

    def close(self) -> None:
        """Do nothing: nothing is open."""


def test_what_they_say_is_reported() -> None:
    source = AskedServers(Asking())
    alpha, beta = asyncio.run(source.reports({"alpha": 3.0}))
    assert alpha.document == document() and (beta.document, beta.error) == (None, "login refused")
    assert source.can_stop and asyncio.run(source.stop("alpha", 7)) == "Ended 7 of alpha."
