"""What ran where, for ``prun --report``."""

from collections import Counter

from pconnect.commands.table import Table

_MAX_ROWS = 500
HEADINGS = ("program", "where", "times", "failed", "why here")


class Report:
    """Counts of programs since the agent has begun: at which server, or here, and why here."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._failed: Counter[tuple[str, str, str]] = Counter()

    def add(self, program: str, host: str, *, failed: bool) -> None:
        """Count a program that has run at a server."""
        key = self._key(program, host, "")
        self._counts[key] += 1
        self._failed[key] += failed

    def add_here(self, program: str, why: str) -> None:
        """Count a program that is to run here; `why` may have several lines."""
        self._counts[self._key(program, "here", " ".join(why.split()))] += 1

    def _key(self, *key: str) -> tuple[str, str, str]:
        """Return what to count something under; there are not more of these than fit on some screens."""
        program, host, why = key
        if key in self._counts or len(self._counts) < _MAX_ROWS:
            return program, host, why
        return "others", host, "other reasons" if why else ""

    def table(self) -> Table:
        """Return all of it. Of programs that ran here, how they have ended is not known."""
        rows = []
        for key, count in sorted(self._counts.items()):
            program, host, why = key
            rows.append([program, host, count, None if why else self._failed[key], why])
        return Table(HEADINGS, rows)
