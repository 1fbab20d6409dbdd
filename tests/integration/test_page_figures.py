"""The page's figures match the jobs that ran, and agree everywhere: Prometheus, JSON, the network."""

import json
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pconnect import program
from pserver.page.address_file import shown_address
from srp_tools.credentials import Credentials
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.slow
DONE, FAILED, PROGRAMS = 23, 5, 3


def fail(_: int) -> None:
    raise ValueError


def read(url: str, path: str, **headers: str) -> str:
    address, _, token = url.partition("?token=")
    request = Request(address + path, headers={"Authorization": f"Bearer {token}", **headers})
    with urlopen(request, timeout=DEADLINE) as answer:
        return str(answer.read().decode())


def figures(url: str) -> dict[tuple[str, str], float]:
    """Return the sums over all servers of the Prometheus metrics, by name and last label."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(read(url, "metrics")):
        for sample in family.samples:
            key = sample.name, sample.labels.get("outcome", sample.labels.get("state", ""))
            found[key] = found.get(key, 0.0) + sample.value
    return found


def counts(server: Server) -> list[int]:
    totals = server.ask("statistics")["totals"]
    return [totals[name] for name in ("jobs_done", "jobs_failed", "programs_done")]


def test_they_agree_with_what_was_run(tmp_path: Path, users: tuple[Credentials, Path]) -> None:
    with run_server(tmp_path / "server", "--slots=2", "--status-page=0", users=users) as server:
        name, folder = server.status["name"], next(server.folder.rglob("*.control")).parent
        wait_until(lambda: shown_address(name, folder) is not None, "the page")
        url = str(shown_address(name, folder))
        with server.connect(2) as net:
            jobs = [net.submit(abs, -each) for each in range(DONE)] + [
                net.submit(fail, 0) for _ in range(FAILED)
            ]
            assert sum(job.exception() is not None for job in jobs) == FAILED
            assert [net.submit(program(["true"])).result().returncode for _ in range(PROGRAMS)] == [
                0
            ] * PROGRAMS
            # Servers learn of it within a second or two.
            wait_until(lambda: counts(server) == [DONE, FAILED, PROGRAMS], "the counts")
            statistics = net.statistics()
            (document,) = statistics.documents.values()
            (shown,) = json.loads(read(url, "api/statistics"))["servers"]
            found = figures(url)
    totals = shown["document"]["totals"]
    assert document is not None and document["totals"] == totals
    assert found["pserver_jobs_total", "done"] == DONE + PROGRAMS
    assert found["pserver_jobs_total", "failed"] == FAILED and found["pserver_jobs_total", "lost"] == 0
    assert found["pserver_slot_jobs_total", "done"] == DONE + PROGRAMS
    assert found["pserver_processing_seconds_total", ""] == pytest.approx(totals["processing_seconds"])
    assert found["pserver_sessions", ""] == 1 and found["pserver_up", ""] == 1
    states = [found["pserver_slots", state] for state in ("free", "granted", "busy")]
    assert sum(states) == len(document["slots"]) == 2
    outcomes = [each["outcome"] for each in shown["document"]["timeline"]]
    assert outcomes.count("failed") == FAILED and outcomes.count("done") == DONE + PROGRAMS
