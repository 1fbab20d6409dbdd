import builtins
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from pserver.display.hooks import Hooks
from pserver.display.outbox import Outbox
from tests.support.front_end import FEW, Far


@pytest.fixture
def far() -> Iterator[Far]:
    far = Far()
    yield far
    far.engine_loop.close()
    far.loop.close()


@pytest.fixture
def outbox(far: Far) -> Outbox:
    made = Outbox(far.engine_end, far.engine_loop, FEW, grace=0.2)
    made.number = 7
    return made


def write_warning(  # noqa: PLR0917 - Python's own signature
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as Python does when pytest does not collect warnings."""
    (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


@pytest.fixture
def hooks(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hooks, dict[str, Any]]]:
    """Install the hooks until the end of the test."""
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    monkeypatch.setattr(builtins, "display", None, raising=False)
    monkeypatch.setenv("MPLBACKEND", "")
    monkeypatch.setattr(warnings, "showwarning", write_warning)
    made = Hooks(outbox, 2**20)
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        made.install(names)
        yield made, names
