"""The first page of the tutorial, as a new user follows it, on four machines with real ssh servers.

The test follows the page with three exceptions: the machines are namespaces of this one; the repository on the laptop
is a copy of the package's sources, with dependencies from the environment of the tests; and pip on the other machines
takes packages from a folder of wheels instead of an index.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cells import Notebook, open_notebook
from tests.support.machines import Machine
from tests.support.pages import Block, check, read_blocks, typed_lines
from tests.support.ssh_machines import Account, run_ssh_machines
from tests.support.tutorial import ROOT, WITHOUT_INDEX, copy_source, type_at
from tests.support.wheels import make_wheels

PAGE = ROOT / "doc/first-steps.md"
MOST_STEPS = 7  # commands and cells
MOST_SECONDS = 180


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Machine]:
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(make_wheels(tmp_path / "wheels"))}
    accounts = {name: Account(variables=index) for name in ("laptop", "alpha", "beta", "gamma")}
    with run_ssh_machines(tmp_path, accounts, WITHOUT_INDEX) as machines:
        copy_source(machines["laptop"].home / "pserver")
        yield machines["laptop"]


def steps(blocks: list[Block]) -> int:
    """Return the number of commands typed and cells run."""
    return sum(len(list(typed_lines(block))) if block.kind == "console" else 1 for block in blocks)


def test_there_are_few_steps() -> None:
    assert steps(read_blocks(PAGE)) <= MOST_STEPS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_nothing_to_numbers_of_three_machines(laptop: Machine) -> None:
    began = time.monotonic()
    *commands, install_kernel, connect, compute = read_blocks(PAGE)
    for block in [*commands, install_kernel]:
        for name, line, said in typed_lines(block):
            assert name == "laptop"
            type_at(laptop, line, said, block.place)
    with open_notebook(laptop, "pserver") as notebook:
        run_cell(notebook, connect)
        first = run_cell(notebook, compute)
        assert time.monotonic() - began < MOST_SECONDS
        assert run_cell(notebook, compute) == first  # the seed determines the numbers
        run_cell(notebook, Block("the end", 1, "python", "net.close()", said="[]\n"))
    laptop.run("pserver deploy --remove alpha beta gamma")


def run_cell(notebook: Notebook, block: Block) -> str:
    shown = notebook.run(block.text).shown
    check(block.place, block.said, shown)
    return shown
