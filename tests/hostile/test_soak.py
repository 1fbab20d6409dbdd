"""A short soak; ``python -m tests.hostile.soak --seconds 1800`` runs it for longer."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.hostile.soak import soak


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_clients_deaths_and_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        seed = int(os.environ.get("SOAK_SEED", "1"))
        figures = soak(Path(folder), 15.0, seed)
    assert figures.wrong == []
    assert figures.ended["killed"] and figures.ended["closed"] and figures.steps["crash"]
