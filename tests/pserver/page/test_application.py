"""The URLs of the page."""

import http.client
import json
import re
from collections.abc import Iterator

import pytest

from pserver.page.application import STATIC
from pserver.page.documents import Report
from srp_tools.errors import ConfigurationError
from tests.support.served_page import TOKEN, Page, served
from tests.support.small_documents import TestSource, document
from tests.support.waiting import DEADLINE

JSON = "application/json"


@pytest.fixture(scope="module")
def source() -> TestSource:
    return TestSource(Report("alpha", document()), Report("beta", None, "it does not answer"))


@pytest.fixture(scope="module")
def page(source: TestSource) -> Iterator[Page]:
    with served(source) as page:
        yield page


def test_the_page_and_its_files(page: Page) -> None:
    html = page.ask("/")
    assert html.headers["content-type"].startswith("text/html") and "<title>pserver</title>" in html.body
    for name in re.findall(r'(?:href|src)="(static/[^"]+)"', html.body):
        assert page.ask(f"/{name}").status == 200, name
    assert page.ask("/static/page.js").headers["content-type"].startswith("text/javascript")


def test_all_addresses_are_relative_and_nothing_is_fetched_from_elsewhere() -> None:
    """Behind a proxy the page has some prefix; it must also work without internet access."""
    for path in STATIC.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path.name
        assert not re.search(r"""(?:href|src|fetch\(|from |post\()\s*=?\s*["']/""", text), path.name
        assert "innerHTML" not in text and "eval(" not in text and "style=" not in text, path.name


def test_statistics_as_json(page: Page) -> None:
    alpha, beta = json.loads(page.ask("/api/statistics").body)["servers"]
    assert alpha["server"] == "alpha" and alpha["document"]["totals"] == document()["totals"]
    assert beta == {"server": "beta", "is_up": False, "error": "it does not answer", "document": None}
    (one,) = json.loads(page.ask("/api/statistics?server=alpha").body)["servers"]
    assert one == alpha
    assert page.ask("/api/statistics?server=gamma").status == 404
    names = json.loads(page.ask("/api/servers").body)["servers"]
    assert [each["server"] for each in names] == ["alpha", "beta"] and "document" not in names[0]


def test_figures_for_prometheus(page: Page) -> None:
    answer = page.ask("/metrics")
    assert (
        answer.headers["content-type"].startswith("text/plain")
        and 'pserver_up{server="alpha"} 1.0' in answer.body
    )


def test_the_stream_of_events(page: Page) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=DEADLINE)
    connection.request("GET", "/events", headers={"X-Pserver-Token": TOKEN})
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.readline() == b"event: snapshot\n" and b'"alpha"' in answer.readline()
    connection.close()


def test_a_session_is_stopped(page: Page, source: TestSource) -> None:
    answer = page.ask("/api/stop", "POST", '{"server": "alpha", "session": 77}', content_type=JSON)
    assert json.loads(answer.body) == {"done": "Ended session 77."} and source.stopped == [("alpha", 77)]
    source.error = ConfigurationError("there is no session '78'")
    answer = page.ask("/api/stop", "POST", '{"server": "alpha", "session": 78}', content_type=JSON)
    source.error = None
    assert answer.status == 502 and json.loads(answer.body) == {"error": "there is no session '78'"}


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 400), ("[" * 500, 400), ("{}", 400),
     ('{"server": 1, "session": 2}', 400), ('{"server": "a", "session": true}', 400),
     ('{"server": "a", "session": -1}', 400), ('{"server": "' + "x" * 2000 + '", "session": 1}', 413)],
)  # fmt: skip
def test_a_request_that_makes_no_sense(page: Page, source: TestSource, body: str, status: int) -> None:
    before = list(source.stopped)
    assert page.ask("/api/stop", "POST", body, content_type=JSON).status == status
    assert source.stopped == before


def test_a_page_that_ends_nothing() -> None:
    with served(TestSource(Report("alpha", document()), can_stop=False)) as page:
        answer = page.ask("/api/stop", "POST", '{"server": "alpha", "session": 77}', content_type=JSON)
    assert answer.status == 403


@pytest.mark.parametrize(
    "path", ["/static/../application.py", "/static/%2e%2e/guard.py", "/static//etc/passwd", "/x"]
)
def test_nothing_else_is_served(page: Page, path: str) -> None:
    assert page.ask(path).status == 404
