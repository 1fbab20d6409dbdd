"""Fields of a line of the log: in one fixed form as text, and as they are for JSON."""

import json
import logging
from collections.abc import Mapping

# No user has a longer name; it would only fill the log. A reason may have a path and what to do.
_MAX_NAME = 100
_MAX_TEXT = 400
_LONG = {"reason", "how", "what", "outcome", "status"}
_BARE = {"network"}  # what is made of digits only

Field = str | int | float


def write(
    log: logging.Logger,
    level: int,
    words: tuple[str, *tuple[object, ...]],
    fields: Mapping[str, Field],
    facts: Mapping[str, Field],
) -> None:
    """Write a line that has `words`, a template with its arguments, and then the fields.

    `facts`: fields of JSON alone, for what the words say. What a peer has said stands in quotes, as in JSON with ASCII
    only: so no name can pose as another field.
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
    """Return the beginning of a text that is too long."""
    return text if len(text) <= limit else text[:limit] + "…"
