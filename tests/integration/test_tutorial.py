"""The tutorial, from its first line to its last, on three machines that the test makes.

The test follows the page, with these exceptions:

- The machines are namespaces of this one, each with its own home; ``/home/alice`` replaces its path in the output.
- The clone of the repository is a copy of the package's sources, and pip takes dependencies from the environment of the
  tests, not from an index.
- Scripts named `ssh` and `scp` access the other home directly.
- Lines of one block for different machines run at the same time.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cells import Notebook, open_notebook
from tests.support.machines import Machine, python_of_the_tests, run_machines
from tests.support.pages import Block, check, read_blocks, typed_lines
from tests.support.tutorial import ROOT, WITHOUT_INDEX, copy_source, type_at

NAMES = ["alpha", "beta", "laptop"]
# The last argument is HOST:PATH; earlier ones start with options.
SCP = """#!/bin/sh
cp "$1" "$2" "{folder}/${{3%%:*}}/${{3#*:}}"
"""
SSH = """#!/bin/sh
HOME="{folder}/$1"
cd "$HOME" && shift && exec sh -c "$*"
"""


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[dict[str, Machine]]:
    with run_machines(tmp_path, NAMES, WITHOUT_INDEX) as machines:
        python_of_the_tests(tmp_path)
        for name, text in {"ssh": SSH, "scp": SCP}.items():
            path = tmp_path / "bin" / name
            path.write_text(text.format(folder=tmp_path))
            path.chmod(0o755)
        for machine in machines.values():
            copy_source(machine.home / "pserver")
        yield machines


def type_all(machines: dict[str, Machine], block: Block) -> None:
    """Run a block for the shells of the machines."""
    lines = list(typed_lines(block))

    def type_those_of(name: str) -> None:
        for _, line, said in (each for each in lines if each[0] == name):
            type_at(machines[name], line, said, block.place)

    names = {name for name, _, _ in lines}
    with ThreadPoolExecutor(len(names)) as pool:
        for done in [pool.submit(type_those_of, name) for name in names]:
            done.result()


def run_script(machine: Machine, block: Block) -> None:
    (machine.home / "example.py").write_text(block.text)
    check(block.place, block.said, machine.run("python example.py"))


def run_cell(notebook: Notebook, block: Block) -> list[str]:
    """Run a block as a cell, compare its output, and return the types of its displays."""
    # Every engine has printed something, so all are working.
    stop = all_nodes_spoke if "the stop button" in block.text else None
    cell = notebook.run(block.text, interrupt_when=stop)
    check(block.place, block.said, cell.shown)
    return [kind for data in cell.displays for kind in data]


def all_nodes_spoke(shown: str) -> bool:
    return set(re.findall(r"^\[(\d+) ", shown, re.MULTILINE)) == {"1", "2"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_does_what_it_says(machines: dict[str, Machine]) -> None:
    notebook: Notebook | None = None
    displayed: list[str] = []
    with ExitStack() as stack:
        for block in read_blocks(ROOT / "doc/tutorial.md"):
            if block.kind == "console":
                type_all(machines, block)
                if "ipykernel install" in block.text:
                    notebook = stack.enter_context(open_notebook(machines["laptop"], "pserver"))
            elif notebook is None:
                run_script(machines["laptop"], block)
            else:
                displayed += run_cell(notebook, block)
    assert notebook is not None
    assert "image/png" in displayed
