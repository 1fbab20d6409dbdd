"""The costs of the page with many servers and jobs: ``python -m tests.benchmarks.page [SERVERS [JOBS-A-MINUTE]]``."""

import asyncio
import sys
import time
from typing import Any

from pserver.page.changes import Changes
from pserver.page.watching import event
from tests.support.browser import chromium, opened
from tests.support.generated_servers import GeneratedSource
from tests.support.served_page import served

SLOTS = 8  # of each server
LOOKS = 10
SECONDS = 20

_OBSERVE = """
window.longTasks = []; window.frameTimes = []; let last = 0;
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((each) => each.duration)))
    .observe({type: "longtask", buffered: true});
const frame = (at) => { if (last) frameTimes.push(at - last); last = at; requestAnimationFrame(frame); };
requestAnimationFrame(frame);
"""


def middle_and_most(values: list[float]) -> str:
    ordered = sorted(values) or [0.0]
    at = [ordered[len(ordered) // 2], ordered[int(0.95 * len(ordered))], ordered[-1]]
    return "median {:.1f}, 95 % {:.1f}, maximum {:.1f} ms".format(*at)


async def looks(source: GeneratedSource) -> None:
    """Print the processor time of the page's process for one look."""
    changes = Changes()
    for look in range(LOOKS + 1):
        reports = await source.reports(changes.since)
        begin = time.process_time()
        told = event("changes", changes.take(reports))
        cost = time.process_time() - begin
        print(f"{'first look' if look == 0 else 'look'}: {1000 * cost:.0f} ms, {len(told) / 1000:.0f} kB")
        await asyncio.sleep(1)


def in_browser(source: GeneratedSource) -> None:
    """Print the costs in the browser."""
    with chromium() as browser, served(source) as page, opened(browser, "about:blank") as shown:
        shown.add_init_script(_OBSERVE)
        begin = time.monotonic()
        shown.goto(page.url)
        shown.wait_for_selector("#servers-table tbody th")
        print(f"first figures in the browser after {time.monotonic() - begin:.1f} s")
        shown.wait_for_timeout(5000)
        session = shown.context.new_cdp_session(shown)
        session.send("Performance.enable")

        def metrics() -> dict[str, Any]:
            return {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}

        shown.evaluate("longTasks.length = frameTimes.length = pserverPage.timeline.frames.length = 0")
        before = metrics()
        shown.wait_for_timeout(1000 * SECONDS)
        after = metrics()
        for name in ("TaskDuration", "ScriptDuration", "LayoutDuration"):
            print(f"{name}: {100 * (after[name] - before[name]) / SECONDS:.1f} % of the main thread")
        print(f"memory of scripts: {after['JSHeapUsedSize'] / 1e6:.0f} MB")
        print("frames:", middle_and_most(shown.evaluate("frameTimes")))
        print("drawing the timeline:", middle_and_most(shown.evaluate("pserverPage.timeline.frames")))
        print(f"tasks over 50 ms in {SECONDS} s:", [round(each) for each in shown.evaluate("longTasks")])


def main(servers: int = 200, jobs_a_minute: int = 10_000) -> None:
    """Print all figures."""
    source = GeneratedSource(servers, SLOTS, jobs_a_minute / servers)
    asyncio.run(looks(source))
    in_browser(source)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
