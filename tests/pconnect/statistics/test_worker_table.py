"""The table of the work of workers."""

import os
import time

from pconnect.errors import JobLostError
from pconnect.views.network_views import ClientNetwork

LIMIT = 20.0


def rows_by_slot(network: ClientNetwork) -> dict[tuple[object, object], list[object]]:
    return {(row[0], row[2]): list(row) for row in network.statistics(timeout=LIMIT).workers(timeout=LIMIT)}


def test_jobs_and_their_times_are_counted(network: ClientNetwork) -> None:
    before = sum(int(str(row[4])) for row in network.statistics().workers() if row[2] == "all")
    list(network.map(time.sleep, [0.01] * 20))
    table = network.statistics(timeout=LIMIT).workers(timeout=LIMIT)
    sums = [row for row in table if row[2] == "all"]
    assert sum(int(str(row[4])) for row in sums) - before == 20
    assert sum(float(str(row[5])) for row in sums) >= 0.2
    assert [row[0] for row in sums] == [1, 2]
    assert all(row[3] == 0 for row in sums)
    assert str(table).splitlines()[0].split()[:3] == ["node", "host", "slot"]
    assert "<th>processed (jobs)</th>" in table._repr_html_()


def test_jobs_and_programs_are_counted_apart_with_how_they_ended(network: ClientNetwork) -> None:
    def sums() -> dict[str, float]:
        table = network.statistics(timeout=LIMIT).workers(timeout=LIMIT)
        rows = [dict(zip(table.headings, row, strict=True)) for row in table]
        names = [
            heading for heading in table.headings if heading.endswith("(jobs)") or "(programs)" in heading
        ]
        names += ["received (MB)", "sent (MB)"]
        return {name: sum(float(str(row[name])) for row in rows if row["slot"] == "all") for name in names}

    before = sums()
    assert network[1].submit(abs, -1).result(LIMIT) == 1
    assert isinstance(network[1].submit(abs, "x" * 2_000_000).exception(LIMIT), TypeError)
    assert isinstance(network[1].submit(os._exit, 3).exception(LIMIT), JobLostError)
    network[1].run(["true"])
    network[1].run(["false"])
    after = sums()
    assert {name: round(after[name] - before[name]) for name in after} == {
        "processed (jobs)": 2, "failed (jobs)": 1, "lost (jobs)": 1, "processed (programs)": 2,
        "failed (programs)": 1, "lost (programs)": 0, "received (MB)": 2, "sent (MB)": 0,
    }  # fmt: skip


def test_a_running_job_appears_in_its_slot(network: ClientNetwork) -> None:
    job = network[1].submit(time.sleep, 1.5)
    deadline = time.monotonic() + LIMIT
    while not any(row[2] != "all" and row[8] is not None for row in network[1].statistics().workers()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert rows_by_slot(network)[1, "all"][8] == 1
    job.cancel()
