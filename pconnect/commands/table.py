"""Tables for terminals and notebooks."""

import html
from collections.abc import Sequence
from typing import Any

from pconnect.errors import ConfigurationError
from srp_tools.printable import printable_name

_MAX_CHARACTERS = 200


class Table(Sequence[Sequence[object]]):
    """Rows under headings; it prints aligned, and a notebook shows it as a table.

    Attributes
    ----------
    headings
        The names of the columns.

    Examples
    --------
    >>> print(Table(["name", "bytes"], [["a", 8], ["long", 1024]]))
    name  bytes
    a         8
    long   1024
    """

    def __init__(self, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        self.headings = list(headings)
        self._rows = [list(row) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | slice) -> "Sequence[object] | Table":  # type: ignore[override]
        if isinstance(index, slice):
            return Table(self.headings, self._rows[index])
        return self._rows[index]

    def __str__(self) -> str:
        texts = [self.headings, *([_text(cell) for cell in row] for row in self._rows)]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        right = [self._is_of_numbers(column) for column in range(len(self.headings))]
        lines = [
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in texts
        ]
        return "\n".join(lines)

    def _is_of_numbers(self, column: int) -> bool:
        cells = [row[column] for row in self._rows]
        return bool(cells) and all(isinstance(cell, int | float) or cell is None for cell in cells)

    __repr__ = __str__

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with these columns; raise `ConfigurationError` if pandas is not installed."""
        try:
            from pconnect.values.pandas_scalars import data_frame  # noqa: PLC0415 - pandas may be missing
        except ImportError as error:
            raise ConfigurationError(
                f"to_pandas() needs pandas, which cannot be imported here: {error}"
            ) from error
        return data_frame(self.headings, self._rows)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(heading)}</th>" for heading in self.headings)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_text(cell))}</td>" for cell in row) + "</tr>"
            for row in self._rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def as_html(headline: str, table: Table) -> str:
    """Return HTML with a table under a headline."""
    return f"<div><code>{html.escape(headline)}</code>{table._repr_html_()}</div>"


def shorten(text: str) -> str:
    """Return a text as one line, shortened to fit in a cell."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 3]}..."


def _text(cell: object) -> str:
    return "" if cell is None else printable_name(str(cell))
