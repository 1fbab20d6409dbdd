"""The page about pools, on four machines. The test follows it, with the exceptions listed in `test_tutorial`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_tutorial import SCP, SSH
from tests.support.machines import Machine, python_of_the_tests, run_machines
from tests.support.pages import read_blocks, typed_lines
from tests.support.tutorial import ROOT, type_at
from tests.support.waiting import wait_until

PAGE = ROOT / "doc/howto/pool.md"
COMMANDS = {"pserver": "pserver", "generate-srp-data": "srp_tools.cli"}


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[dict[str, Machine]]:
    with run_machines(tmp_path, ["alpha", "beta", "gamma", "delta"], {"PYTHONPATH": str(ROOT)}) as machines:
        python_of_the_tests(tmp_path)
        texts = {"ssh": SSH.format(folder=tmp_path), "scp": SCP.format(folder=tmp_path)}
        texts |= {name: f'#!/bin/sh\nexec python3 -m {module} "$@"\n' for name, module in COMMANDS.items()}
        for name, text in texts.items():
            path = tmp_path / "bin" / name
            path.write_text(text)
            path.chmod(0o755)
        yield machines


def _heard(machine: Machine) -> int:
    shown = machine.run("pserver ctl members --json")
    return sum(each["heard"] is not None for each in json.loads(shown)["members"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_does_what_it_says(machines: dict[str, Machine]) -> None:
    for block in read_blocks(PAGE):
        if block.kind == "python":
            for machine in machines.values():
                (machine.home / "everywhere.py").write_text(block.text)
            # Servers announce themselves shortly after they start.
            for name, count in {"beta": 3, "alpha": 1, "gamma": 1, "delta": 1}.items():
                wait_until(lambda: _heard(machines[name]) == count, f"the members of {name}")  # noqa: B023
        elif block.kind == "console":
            for name, line, said in typed_lines(block):
                type_at(machines[name], line, said, block.place)
    wait_until(lambda: _heard(machines["delta"]) == 2, "alpha to announce itself to delta")
    assert "4 servers" in machines["alpha"].run("python3 everywhere.py")
