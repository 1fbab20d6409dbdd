"""The interface of sources, and that all sources implement it."""

from pserver.page.source import Source
from tests.support.generated_servers import GeneratedSource
from tests.support.small_documents import TestSource


def test_sources_of_tests_fit() -> None:
    sources: list[Source] = [TestSource(), GeneratedSource(1)]
    assert all(source.can_stop for source in sources)
