"""The figures in the format of Prometheus, computed from documents for each request.

The registry is separate, so that metrics of other libraries in this process do not appear.
"""

import itertools
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pconnect.statistics.document import part
from pserver.page.documents import MOST_SLOTS, Document, Report, entries, number, slot_states, text

_OUTCOMES = ("done", "failed", "lost")

# Name, help text, and field of the totals.
_COUNTERS = (
    ("pserver_processing_seconds", "Total run time of jobs and programs", "processing_seconds"),
    ("pserver_queue_seconds", "Total waiting time of jobs at this server", "queue_seconds"),
    ("pserver_transfer_seconds", "Total transfer time of jobs and results", "transfer_seconds"),
    ("pserver_received_bytes", "Bytes received by workers and engines", "bytes_in"),
    ("pserver_sent_bytes", "Bytes sent by workers and engines", "bytes_out"),
    ("pserver_sessions_begun", "Sessions started", "sessions"),
    ("pserver_failed_logins", "Failed logins", "logins_failed"),
)
_SIZES = (
    ("pserver_memory_size_bytes", "Memory of the machine", "memory_total"),
    ("pserver_memory_free_bytes", "Memory available to programs without swapping", "memory_free"),
    ("pserver_swap_size_bytes", "Swap space of the machine", "swap_total"),
    ("pserver_swap_free_bytes", "Free swap space", "swap_free"),
    ("pserver_disk_size_bytes", "Size of the file system of the spool folder", "disk_total"),
    ("pserver_disk_free_bytes", "Free space of that file system", "disk_free"),
    ("pserver_processors", "Processors of the machine", "processors"),
)


class _Reports(Collector):
    """Computes the metrics of some reports."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self._reports = reports
        self._documents = [(each.key, each.document) for each in reports if each.document is not None]

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its values for all servers."""
        up = GaugeMetricFamily("pserver_up", "Whether the server answered", labels=["server"])
        for report in self._reports:
            up.add_metric([report.key], float(report.document is not None))
        yield up
        yield self._info()
        yield self._gauge("pserver_start_time_seconds", "When the server was started", "server", "started")
        yield self._jobs()
        for name, help_text, field in _COUNTERS:
            family = CounterMetricFamily(name, help_text, labels=["server"])
            self._fill(family, "totals", field)
            yield family
        for name, help_text, field in _SIZES:
            yield self._gauge(name, help_text, "machine", field)
        yield self._load()
        yield self._slots()
        yield self._gauge("pserver_slots_waiting", "Slots requested but not granted", "queue", "waiting")
        yield self._sessions()
        yield from self._each_slot()

    def _gauge(self, name: str, help_text: str, section: str, field: str) -> Metric:
        family = GaugeMetricFamily(name, help_text, labels=["server"])
        self._fill(family, section, field)
        return family

    def _fill(self, family: GaugeMetricFamily | CounterMetricFamily, section: str, field: str) -> None:
        for key, document in self._documents:
            if (value := number(part(document, section).get(field))) is not None:
                family.add_metric([key], value)

    def _info(self) -> Metric:
        family = GaugeMetricFamily(
            "pserver_info", "Names of the server", labels=["server", "name", "host", "version"]
        )
        for key, document in self._documents:
            server = part(document, "server")
            names = [text(server.get(name)) or "" for name in ("name", "host", "version")]
            family.add_metric([key, *names], 1)
        return family

    def _jobs(self) -> Metric:
        family = CounterMetricFamily(
            "pserver_jobs", "Finished jobs and programs", labels=["server", "kind", "outcome"]
        )
        for key, document in self._documents:
            for (kind, outcome), value in _ended(part(document, "totals")):
                family.add_metric([key, kind, outcome], value)
        return family

    def _load(self) -> Metric:
        family = GaugeMetricFamily(
            "pserver_load_average", "Load of the machine", labels=["server", "minutes"]
        )
        for key, document in self._documents:
            loads = part(document, "machine").get("load")
            for minutes, load in zip(
                ("1", "5", "15"), loads if isinstance(loads, list) else (), strict=False
            ):
                if (value := number(load)) is not None:
                    family.add_metric([key, minutes], value)
        return family

    def _slots(self) -> Metric:
        family = GaugeMetricFamily("pserver_slots", "Slots by their state", labels=["server", "state"])
        for key, document in self._documents:
            for state, count in slot_states(document).items():
                family.add_metric([key, state], count)
        return family

    def _sessions(self) -> Metric:
        family = GaugeMetricFamily("pserver_sessions", "Current sessions", labels=["server"])
        for key, document in self._documents:
            others = number(part(document, "others").get("sessions")) or 0
            shown = document.get("sessions")
            family.add_metric([key], others + (len(shown) if isinstance(shown, list) else 0))
        return family

    def _each_slot(self) -> Iterator[Metric]:
        jobs = CounterMetricFamily(
            "pserver_slot_jobs",
            "Finished jobs and programs by slot",
            labels=["server", "slot", "kind", "outcome"],
        )
        seconds = CounterMetricFamily(
            "pserver_slot_processing_seconds",
            "Run time of jobs and programs by slot",
            labels=["server", "slot"],
        )
        for key, document in self._documents:
            for slot in entries(document, "slots", MOST_SLOTS):
                place = str(number(slot.get("slot")))
                for (kind, outcome), value in _ended(slot):
                    jobs.add_metric([key, place, kind, outcome], value)
                if (time := number(slot.get("processing_seconds"))) is not None:
                    seconds.add_metric([key, place], time)
        yield jobs
        yield seconds


def _ended(counts: Document) -> Iterator[tuple[tuple[str, str], int | float]]:
    """Return the numbers of finished jobs and programs by kind and outcome, as far as known."""
    for kind, outcome in itertools.product(("job", "program"), _OUTCOMES):
        if (value := number(counts.get(f"{kind}s_{outcome}"))) is not None:
            yield (kind, outcome), value


def exposition(reports: Sequence[Report], accept: str = "") -> tuple[bytes, str]:
    """Return the metrics of reports as text, and the media type of the text.

    `accept`: the header of that name, in which Prometheus states its preferred formats.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reports(reports))
    encode, kind = choose_encoder(accept)
    return encode(registry), kind
