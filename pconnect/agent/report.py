"""The table of ``prun --report``: where programs ran."""

from collections import Counter

from pconnect.commands.table import Table

_MAX_ROWS = 500
HEADINGS = ("program", "where", "times", "failed", "why here")


class Report:
    """Counts of programs since the agent started, by server, or by the reason for a local run."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._failed: Counter[tuple[str, str, str]] = Counter()

    def add(self, program: str, host: str, *, failed: bool) -> None:
        """Count a program that ran on a server."""
        key = self._key(program, host, "")
        self._counts[key] += 1
        self._failed[key] += failed

    def add_here(self, program: str, why: str) -> None:
        """Count a program that must run here. `why` may have several lines."""
        self._counts[self._key(program, "here", " ".join(why.split()))] += 1

    def _key(self, *key: str) -> tuple[str, str, str]:
        """Return the key of a row. Beyond `_MAX_ROWS` rows, programs and reasons are lumped together."""
        program, host, why = key
        if key in self._counts or len(self._counts) < _MAX_ROWS:
            return program, host, why
        return "other programs", host, "other reasons" if why else ""

    def table(self) -> Table:
        """Return the table. For programs that ran here, the number of failures is unknown."""
        rows = []
        for key, count in sorted(self._counts.items()):
            program, host, why = key
            rows.append([program, host, count, None if why else self._failed[key], why])
        return Table(HEADINGS, rows)
