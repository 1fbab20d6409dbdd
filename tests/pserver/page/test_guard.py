"""The guard refuses requests without the token, of other origins and names, and restricts browsers with headers."""

from collections.abc import Iterator

import pytest

from pserver.page.documents import Report
from tests.support.served_page import TOKEN, Page, served
from tests.support.small_documents import TestSource, document

SECRET = "alpha.lab"  # appears only in answers with statistics


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with served(TestSource(Report("alpha", document())), names=["pool.lab"]) as page:
        yield page


@pytest.mark.parametrize(
    "path", ["/", "/events", "/metrics", "/api/servers", "/api/statistics", "/api/nothing"]
)
@pytest.mark.parametrize("given", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "\xe9"])
def test_without_the_token_there_is_nothing(page: Page, path: str, given: str | None) -> None:
    answer = page.ask(path, x_pserver_token=given)
    assert answer.status == 401 and "needs its token" in answer.body and SECRET not in answer.body


def test_the_token_comes_in_the_address_or_in_a_header(page: Page) -> None:
    assert page.ask(f"/api/statistics?token={TOKEN}", x_pserver_token=None).status == 200
    assert SECRET in page.ask("/api/statistics", x_pserver_token=None, authorization=f"Bearer {TOKEN}").body
    assert page.ask("/api/statistics?token=wrong", x_pserver_token=None).status == 401


def test_what_changes_something_has_it_in_a_header(page: Page) -> None:
    """A form of another origin can post to any address, but cannot set a header."""
    body = '{"server": "alpha", "session": 77}'
    more = {"content_type": "application/json"}
    assert page.ask(f"/api/stop?token={TOKEN}", "POST", body, x_pserver_token=None, **more).status == 401
    assert page.ask("/api/stop", "POST", body, content_type="text/plain").status == 415
    assert page.ask("/api/stop", "GET").status == 405
    assert page.ask("/api/stop", "POST", body, **more).status == 200


@pytest.mark.parametrize(
    "host",
    ["attacker.example", "attacker.example:80", "127.0.0.1.attacker.example", "localhost.attacker.example", "",
     "10.0.0.1", "[::2]:80", "pool.lab.attacker.example", None],
)  # fmt: skip
def test_another_name_does_not_lead_here(page: Page, host: str | None) -> None:
    """With DNS rebinding, a page of attacker.example can send requests to this machine under its own name."""
    answer = page.ask("/api/statistics", host=host)
    assert answer.status in {400, 421} and SECRET not in answer.body


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.2:1", "localhost:1", "[::1]:1", "lab.localhost", "POOL.lab"]
)
def test_its_own_names_lead_here(page: Page, host: str) -> None:
    assert page.ask("/api/statistics", host=host).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_of_other_origins_are_refused_although_they_have_the_token(page: Page, site: str) -> None:
    for mode in ("cors", "no-cors"):
        answer = page.ask("/api/statistics", sec_fetch_site=site, sec_fetch_mode=mode)
        assert answer.status == 403 and SECRET not in answer.body
    assert page.ask("/api/stop", "POST", "{}", sec_fetch_site=site, sec_fetch_mode="navigate").status == 403
    # A link in a terminal or a notebook.
    assert page.ask("/", sec_fetch_site=site, sec_fetch_mode="navigate").status == 200


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/api/statistics", "/metrics", "/nothing"])
def test_the_headers_of_every_answer(page: Page, path: str) -> None:
    for token in (TOKEN, None):
        headers = page.ask(path, x_pserver_token=token).headers
        policy = headers["content-security-policy"]
        assert (
            "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        )
        assert headers["x-frame-options"] == "DENY" and headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert "set-cookie" not in headers and "server" not in headers
        assert not [name for name in headers if name.startswith("access-control")]


def test_other_methods_are_not_served(page: Page) -> None:
    for method in ("OPTIONS", "PUT", "DELETE", "TRACE"):
        assert page.ask("/api/statistics", method).status == 405


def test_frames_are_allowed_where_they_were_asked_for() -> None:
    source = TestSource(Report("alpha", document()))
    with served(source, framed_by=["'self'", "http://localhost:*"], names=["*"]) as page:
        headers = page.ask("/", host="hub.example").headers
    assert headers["content-security-policy"].endswith("frame-ancestors 'self' http://localhost:*")
    assert "x-frame-options" not in headers


def test_a_long_address_is_refused(page: Page) -> None:
    assert page.ask("/api/statistics?" + "x" * 5000).status == 414
