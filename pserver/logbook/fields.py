"""The fields of a log line: in one fixed form for text, unchanged for JSON."""

import json
import logging
from collections.abc import Mapping

# Longer names would only fill the log. A reason may contain a path and advice.
_MAX_NAME = 100
_MAX_TEXT = 400
_LONG = {"reason", "how", "what", "outcome", "status"}
_BARE = {"network"}  # consists of digits, so it needs no quotes

Field = str | int | float


def write(
    log: logging.Logger,
    level: int,
    words: tuple[str, *tuple[object, ...]],
    fields: Mapping[str, Field],
    facts: Mapping[str, Field],
) -> None:
    """Write a line with `words`, a template and its arguments, followed by the fields.

    `facts`: fields for JSON only, which `words` already states. Text from a peer is quoted as an ASCII JSON string, so
    no name can pose as another field.
    """
    start, *arguments = words
    template = " ".join([start, *(f"{name}=%s" for name in fields)])
    shown = [_shown(name, value) for name, value in fields.items()]
    log.log(level, template, *arguments, *shown, extra={"fields": {**facts, **fields}})


def _shown(name: str, value: Field) -> str:
    if isinstance(value, float):
        return f"{value:.1f}" if value >= 10 else f"{value:.3f}"
    if isinstance(value, int) or name in _BARE:
        return str(value)
    return _quoted(value, _MAX_TEXT if name in _LONG else _MAX_NAME)


def _quoted(text: str, limit: int) -> str:
    return json.dumps(shortened(text, limit)).replace("\x7f", "\\u007f")


def shortened(text: str, limit: int) -> str:
    """Cut a text that is longer than `limit` characters, and mark the cut with an ellipsis."""
    return text if len(text) <= limit else text[:limit] + "…"
