import os
from pathlib import Path

import pytest

from pserver.statistics import machine
from pserver.statistics.machine import machine_facts


def test_the_facts_are_those_of_the_system(tmp_path: Path) -> None:
    facts = machine_facts(tmp_path / "not" / "made")
    assert facts["processors"] == len(os.sched_getaffinity(0)) and len(facts["load"]) == 3
    assert 2**20 < facts["memory_free"] <= facts["memory_total"]
    assert facts["swap_free"] <= facts["swap_total"]
    assert 0 < facts["disk_free"] <= facts["disk_total"]
    total = os.statvfs(tmp_path)
    assert facts["disk_total"] == total.f_blocks * total.f_frsize


def test_what_the_system_does_not_tell_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "meminfo")
    assert machine_facts(Path("none"))["memory_free"] is None
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\nMemAvailable: many\nodd line\n")
    facts = machine_facts(Path("/"))
    assert (facts["memory_total"], facts["memory_free"]) == (10240, None)
