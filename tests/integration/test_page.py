"""The page in Chromium: a click through a real server with real jobs, and attackers' pages, which get nothing."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pconnect.errors import ConnectionLostError
from pserver.page.address_file import shown_address
from pserver.page.documents import Report
from srp_tools.credentials import Credentials
from tests.support.browser import SIZES, axe_violations, chromium, opened, other_origin
from tests.support.generated_servers import GeneratedSource
from tests.support.served_page import TOKEN, served
from tests.support.servers import Server, run_server
from tests.support.small_documents import TestSource, document
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=alert(1)><b>x</b>"
_COLOURS = """() => {
    const canvas = document.getElementById('work-canvas');
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    const seen = new Set();
    for (let at = 0; at < data.length; at += 4) seen.add(data[at] << 16 | data[at + 1] << 8 | data[at + 2]);
    return [...seen].map((colour) => '#' + colour.toString(16).padStart(6, '0'));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    # attacker.example resolves to this machine, as an attacker's name server could arrange.
    with chromium("--host-resolver-rules=MAP attacker.example 127.0.0.1") as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("page"), "--slots=2", "--status-page=0", users=users) as running:
        yield running


def url_of(server: Server) -> str:
    folder = next(server.folder.rglob("*.control")).parent
    wait_until(lambda: shown_address(server.status["name"], folder) is not None, "the page")
    return str(shown_address(server.status["name"], folder))


def fail(_: int) -> None:
    raise ValueError


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_a_click_through_a_server_that_works(browser: "Browser", server: Server) -> None:
    hostile = eval("lambda seconds: __import__('time').sleep(seconds)")
    hostile.__name__ = hostile.__qualname__ = HOSTILE
    with server.connect(1) as net, opened(browser, url_of(server)) as page:
        page.wait_for_selector("#light.live")
        jobs = [net.submit(function, 0.01) for function in (sleep, fail, hostile)] + [net.submit(sleep, 0.8)]
        assert sum(job.exception() is not None for job in jobs) == 1
        row = page.locator("#servers-table tbody tr")
        check_figures(page, row)
        check_timeline(page)
        check_controls(page, row)
        check_stop(page, server)
        with pytest.raises(ConnectionLostError):
            net.eval("1").result()


def check_figures(page: "Page", row: Any) -> None:
    """The tables are correct: four jobs, one of which failed."""
    page.wait_for_function(
        """() => {
            const cells = [...document.querySelectorAll('#servers-table td')].map((cell) => cell.textContent);
            return cells[4] === '3' && cells[5] === '1';
        }"""
    )
    heads = [each.strip() for each in page.locator("#servers-table thead th").all_inner_texts()]
    cells = dict(zip(heads, [each.strip() for each in row.locator("th, td").all_inner_texts()], strict=True))
    assert (
        cells["State"] == "up" and cells["Jobs"] == "3" and cells["Failed"] == "1" and cells["Waiting"] == "0"
    )
    assert re.fullmatch("[0-2] of 2", cells["Busy slots"])
    assert "3" in page.locator("#glance").inner_text()
    assert page.locator("#sessions-table tbody tr").count() == 1
    assert page.locator("#charts svg[role=img]").count() == 8


def check_timeline(page: "Page") -> None:
    """The canvas has bars, and the table beside it shows the same as text; names are never treated as HTML."""
    assert page.locator("#work-summary").inner_text().startswith("Shown: 2 slots of 1 server. Busy at ")
    page.locator("#work-details summary").click()
    page.wait_for_function("() => document.querySelectorAll('#work-table tbody tr').length >= 4")
    rows = page.locator("#work-table tbody tr").all_inner_texts()
    assert any(HOSTILE in each for each in rows) and page.locator("main img").count() == 0
    assert any("fail" in each and "failed" in each for each in rows)
    colours = set(page.evaluate(_COLOURS))
    paint = page.evaluate("() => window.pserverPage.timeline.paint")
    assert colours & set(paint["work"]) and paint["failed"] in colours, colours
    page.locator("#work-legend li", has_text="sleep").wait_for()
    page.locator("#work-scroll").focus()
    page.keyboard.press("-")
    assert page.locator("#work-span").input_value() == "120"
    page.keyboard.press("+")
    assert page.locator("#work-span").input_value() == "60"


def check_controls(page: "Page", row: Any) -> None:
    theme = page.locator("#theme")
    for name in ("light", "dark", "system"):
        theme.click()
        assert theme.get_attribute("aria-label") == f"Theme: {name}"
    heading = page.locator("#servers-table thead th", has_text="Jobs").first
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    page.locator("#servers-find").fill("nowhere")
    page.wait_for_function("() => !document.querySelector('#servers-table tbody th')")
    page.locator("#servers-find").fill("")
    row.locator("th").wait_for()
    page.locator("#pause").click()
    assert page.locator("#pause").get_attribute("aria-pressed") == "true"
    page.locator("#pause").click()


def check_stop(page: "Page", server: Server) -> None:
    """Stop asks for confirmation; the session ends only if the user confirms."""
    stop = page.locator("#sessions-table tbody button")
    stop.click()
    page.locator("#ask-no").click()
    assert len(server.status_now()["sessions"]) == 1
    stop.click()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the other button: everything works without a mouse
    page.wait_for_function("() => document.getElementById('said').textContent.startsWith('Ended session')")
    page.wait_for_function("() => document.querySelector('#sessions-table td.empty')")
    wait_until(lambda: not server.status_now()["sessions"], "the end of the session")


@pytest.fixture(scope="module")
def pool() -> Iterator[str]:
    with served(GeneratedSource(4, 3, 60)) as page:
        yield page.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it_and_it_fits_screens_of_all_sizes(
    browser: "Browser", pool: str, scheme: Any
) -> None:
    for size in SIZES:
        with opened(browser, pool, size, color_scheme=scheme, bypass_csp=True) as page:
            page.wait_for_selector("#servers-table tbody th")
            page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            page.wait_for_selector("#work-table tbody th")
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            if size == "desktop":
                assert axe_violations(page) == []
                page.locator("#sessions-table tbody button").first.click()
                assert axe_violations(page) == []  # with the confirmation


def test_below_a_prefix_it_works_as_well(browser: "Browser", pool: str) -> None:
    """As behind jupyter-server-proxy, all addresses are relative."""
    with opened(browser, "about:blank") as page:
        page.context.route(
            "**/user/alice/proxy/1234/**",
            lambda route: route.continue_(url=route.request.url.replace("/user/alice/proxy/1234/", "/")),
        )
        page.goto(pool.replace("/?", "/user/alice/proxy/1234/?"))
        page.wait_for_selector("#servers-table tbody th")
        page.goto("about:blank")  # end the stream, or the route would wait for it


def test_without_its_token_nothing_is_shown(browser: "Browser", pool: str) -> None:
    for url in (pool.partition("?")[0], pool[:-1]):
        with contextlib.suppress(AssertionError), opened(browser, url) as page:
            assert "needs its token" in page.inner_text("body") and "node001" not in page.content()


_ATTACK = """<!doctype html><title>waiting</title><body><script>
const target = "TARGET", token = "TOKEN", found = {};
const tried = async (name, address, options) => {
  try {
    const answer = await fetch(target + address, options);
    found[name] = answer.type === "opaque" ? "opaque" : await answer.text();
  } catch (error) { found[name] = "nothing"; }
};
const framed = (name, address) => new Promise((resolve) => {
  const frame = document.createElement("iframe");
  frame.onload = () => {
    try { found[name] = frame.contentDocument.body.innerText || "nothing"; } catch (error) { found[name] = "nothing"; }
    resolve();
  };
  frame.src = target + address;
  document.body.append(frame);
});
const loaded = (name, made) => new Promise((resolve) => {
  made.onload = () => { found[name] = "loaded"; resolve(); };
  made.onerror = () => { found[name] = "nothing"; resolve(); };
  document.body.append(made);
});
const stop = {method: "POST", body: '{"server": "alpha", "session": 77}'};
(async () => {
  await tried("no token", "api/statistics");
  await tried("wrong token", "api/statistics?token=wrong");
  await tried("right token", "api/statistics?token=" + token);
  await tried("no-cors", "api/statistics?token=" + token, {mode: "no-cors"});
  await tried("header", "api/statistics", {headers: {"X-Pserver-Token": token}});
  await tried("stream", "events?token=" + token);
  await tried("simple post", "api/stop?token=" + token, {...stop, mode: "no-cors"});
  await tried("post", "api/stop", {...stop, headers: {"X-Pserver-Token": token, "Content-Type": "application/json"}});
  await framed("frame", "?token=" + token);
  await loaded("script", Object.assign(document.createElement("script"), {src: target + "static/page.js"}));
  await loaded("figures", Object.assign(document.createElement("script"), {src: target + "metrics?token=" + token}));
  await loaded("picture", Object.assign(document.createElement("img"), {src: target + "static/icon.svg"}));
  document.title = "done";
  window.found = found;
})();
</script>"""
_FORM = """<!doctype html><form method="post" enctype="text/plain" action="TARGETapi/stop?token=TOKEN">
<input name='{"server": "alpha", "session": 77, "x": "' value='"}'></form><script>document.forms[0].submit()</script>"""


def test_a_page_of_another_origin_gets_nothing_although_it_knows_the_token(browser: "Browser") -> None:
    source = TestSource(Report("alpha", document()))
    with served(source) as target:
        own = target.url.partition("?")[0]
        with other_origin(_ATTACK.replace("TARGET", own).replace("TOKEN", TOKEN)) as evil:
            # Another name of this machine works too: that is a third origin.
            for address in (
                evil,
                evil.replace("127.0.0.1", "localhost"),
                evil.replace("127.0.0.1", "attacker.example"),
            ):
                found = attack(browser, address)
                assert set(found.values()) <= {"nothing", "opaque"}, found
                assert (
                    found["right token"] == found["post"] == found["frame"] == found["figures"] == "nothing"
                )
        with other_origin(_FORM.replace("TARGET", own).replace("TOKEN", TOKEN)) as evil:
            page = browser.new_page()
            page.goto(evil)
            page.wait_for_url("**/api/stop**")
            assert "alpha" not in page.inner_text("body")
            page.close()
    assert source.stopped == [] and not any("alpha" in str(each) for each in source.asked)


def attack(browser: "Browser", address: str) -> dict[str, str]:
    """Open an attacker's page; return its findings."""
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function("document.title === 'done'")
    found: dict[str, str] = page.evaluate("window.found")
    page.close()
    return found


def test_dns_rebinding_leads_nowhere(browser: "Browser") -> None:
    """The attacker's own name now resolves to this machine, so the attacker's page has the same origin as ours."""
    source = TestSource(Report("alpha", document()))
    with served(source) as target:
        page = browser.new_page()
        for address in ("/", "/api/statistics", "/metrics", "/static/page.html"):
            answer = page.goto(f"http://attacker.example:{target.port}{address}?token={TOKEN}")
            assert answer is not None and answer.status == 421 and "alpha" not in answer.text()
        said = page.evaluate(
            """(token) => fetch("/api/stop", {method: "POST", body: '{"server": "alpha", "session": 77}',
                headers: {"X-Pserver-Token": token, "Content-Type": "application/json"},
            }).then((each) => each.status)""",
            TOKEN,
        )
        assert said == 421
        page.close()
    assert source.stopped == [] and source.asked == []


def test_when_its_server_has_gone_the_page_says_so_and_comes_back(browser: "Browser") -> None:
    source = TestSource(Report("alpha", document()))
    with served(source, interval=0.1) as target, opened(browser, target.url) as page:
        page.set_viewport_size({"width": 1280, "height": 900})
        page.wait_for_selector("#servers-table td.good")
        assert page.locator("#sessions-table tbody th").count() > 0
        why = "it does not answer, " + 4 * "for a reason that takes many words, "
        source.given = [Report("alpha", None, why)]
        page.locator("#servers-table td.bad", has_text="it does not answer").wait_for()
        # Its sessions can no longer be stopped, and a long reason does not push other columns out of view.
        page.locator("#sessions-table tbody th").wait_for(state="detached")
        frame = page.locator("#servers-table").evaluate("(table) => table.parentElement.clientWidth")
        assert page.locator("#servers-table td.wraps").bounding_box()["width"] < frame / 2
        source.given = [Report("alpha", document(2000.0))]
        page.wait_for_selector("#servers-table td.good")
        page.context.set_offline(True)
        page.context.set_offline(False)
        page.wait_for_selector("#light.live")
        assert json.loads(target.ask("/api/servers").body)["servers"][0]["is_up"]
