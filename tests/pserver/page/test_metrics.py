"""The metrics for Prometheus, parsed by its client library."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from pserver.page.documents import Report
from pserver.page.metrics import exposition
from tests.support.small_documents import document

REPORTS = [Report("alpha", document()), Report("beta", None, "gone")]
HOSTILE = 'x"} 1\npserver_up{server="\\'


def figures(reports: list[Report]) -> dict[tuple[str, ...], float]:
    """Return the samples by name and label values."""
    body, kind = exposition(reports)
    assert kind.startswith("text/plain")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_the_figures_are_those_of_the_documents() -> None:
    found = figures(REPORTS)
    assert found["pserver_up", "alpha"] == 1 and found["pserver_up", "beta"] == 0
    assert found["pserver_jobs_total", "job", "done", "alpha"] == 7
    assert found["pserver_jobs_total", "job", "failed", "alpha"] == 2
    assert found["pserver_jobs_total", "program", "done", "alpha"] == 3
    assert found["pserver_slots", "alpha", "busy"] == 1
    assert found["pserver_slots_waiting", "alpha"] == 3
    assert found["pserver_sessions", "alpha"] == 3
    assert found["pserver_memory_free_bytes", "alpha"] == 40
    assert found["pserver_load_average", "5", "alpha"] == 0.25
    assert found["pserver_received_bytes_total", "alpha"] == 1000
    assert found["pserver_processing_seconds_total", "alpha"] == 12.5
    assert found["pserver_slot_jobs_total", "job", "done", "alpha", "1"] == 6
    assert not any(key[1:] == ("beta",) for key in found if key[0] != "pserver_up")


def test_the_same_in_the_format_of_openmetrics() -> None:
    body, kind = exposition(REPORTS, "application/openmetrics-text;version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    families = {family.name: family for family in parse_openmetrics(body.decode())}
    assert families["pserver_jobs"].type == "counter" and families["pserver_slots"].type == "gauge"


def test_names_of_servers_cannot_add_lines() -> None:
    server = {**document()["server"], "name": HOSTILE, "host": HOSTILE}
    found = figures([Report(HOSTILE, document(server=server))])
    assert found["pserver_up", HOSTILE] == 1
    assert [key for key in found if key[0] == "pserver_up"] == [("pserver_up", HOSTILE)]


def test_nothing_of_other_libraries_is_shown() -> None:
    assert {name.split("_")[0] for name, *_ in figures(REPORTS)} == {"pserver"}
