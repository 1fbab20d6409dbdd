"""The client's view in doc/reliability.md: the tests read their expectations from the page."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.matrix.activities import ACTIVITIES
from tests.hostile.matrix.cell import Seen

PAGE = Path(__file__).parents[3] / "doc" / "reliability.md"
_COLUMNS = ["what fails", "a new login", *ACTIVITIES]
_WORD = r"(?:continues|waits|gone|`\w+Error`)(?: → (?:restart|connect again))?"
_CELL = re.compile(rf"{_WORD}(?: or {_WORD})*")


@dataclass(frozen=True)
class Expected:
    """The page's entry for one cell: one outcome, or one of several. `login`: for a login while a client is idle."""

    entry: str
    login: str

    def __post_init__(self) -> None:
        for words in filter(None, (self.entry, self.login)):
            assert _CELL.fullmatch(words), f"{PAGE}: {words!r} has no testable words"

    @property
    def waits(self) -> bool:
        """Return whether the client's work ends only after a stopped process resumes."""
        return self.entry == "waits"

    def difference(self, seen: Seen) -> str:
        """Return how the outcome differs, or nothing if it does not."""
        way = seen.after.get(1, "works")
        arrow = {"works": "", "restart": " → restart"}.get(way, " → connect again")
        if not _fits(self.entry, seen.outcome, seen.waited, arrow):
            return f"the page says {self.entry}, but the outcome was: {seen}"
        if seen.after.get(2, "works") != "works":
            return f"the second node is harmed: {seen}"
        if seen.login is not None and not _fits(self.login, seen.login, seen.login_waited):
            return f"the page says of a login: {self.login}, but the outcome was: {seen}"
        return ""


def _fits(entry: str, outcome: dict[str, Any], waited: bool, arrow: str = "") -> bool:
    """Return whether the outcome, or its kind of error, is one that an entry names."""
    if outcome["error"] is None:
        words = ["waits" if waited else "continues"]
    else:
        words = [outcome["error"], *(f"`{kind}`" for kind in outcome.get("kinds", []))]
    return any(word + arrow in entry.split(" or ") for word in words)


def read_page() -> dict[tuple[str, str, str], Expected]:
    """Return the page's entry for each process, fault and activity."""
    cells: dict[tuple[str, str, str], Expected] = {}
    fault = ""
    columns: list[str] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            fault, columns = line.lstrip("# ").replace("`", ""), []
        elif line.startswith("| "):
            words = [word.strip() for word in line.strip("|").split("|")]
            if words == _COLUMNS:
                columns = words[2:]
            elif columns and not words[0].startswith("-"):
                kind, login, *entries = words
                for activity, entry in zip(columns, entries, strict=True):
                    cells[kind, fault, activity] = Expected(entry, login if activity == "idle" else "")
    return cells
