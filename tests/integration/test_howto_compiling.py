"""The page about compiling on several machines, as a user follows it: with real ssh servers and private homes.

The test follows the page, with the exceptions listed in `test_first_steps` and a project of its own.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.c_project import write_project
from tests.support.machines import Machine
from tests.support.pages import read_blocks, typed_lines
from tests.support.programs import program
from tests.support.ssh_machines import Account, run_ssh_machines
from tests.support.tutorial import ROOT, WITHOUT_INDEX, copy_source, type_at
from tests.support.wheels import make_wheels

PAGE = ROOT / "doc/howto/distributed-compiling.md"
FILES = 12


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Machine]:
    for name, package in {"gcc": "gcc", "g++": "g++", "make": "make", "ccache": "ccache"}.items():
        program(name, package)
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(make_wheels(tmp_path / "wheels"))}
    accounts = {name: Account(variables=index) for name in ("laptop", "alpha", "beta", "gamma")}
    with run_ssh_machines(tmp_path, accounts, WITHOUT_INDEX, share_homes=False) as machines:
        laptop = machines["laptop"]
        copy_source(laptop.home / "pserver")
        write_project(laptop.home / "project", FILES)
        yield laptop


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_does_what_it_says(laptop: Machine) -> None:
    for block in read_blocks(PAGE):
        if block.kind == "toml":
            (laptop.home / ".config/pserver/client/prun.toml").write_text(block.text)
            continue
        for name, line, said in typed_lines(block):
            assert name == "laptop"
            type_at(laptop, line, said, block.place)
    report = laptop.run("prun --report")
    places = [line.split() for line in report.splitlines()[1:]]
    away = sum(int(times) for compiler, host, times, *_ in places if compiler == "gcc" and host != "here")
    # All files twice, once from ccache; once with -march=native; and one file for comparison.
    assert (away, "native" in report) == (2 * FILES + 2, False), report
    assert re.search(rf"Hits: +{FILES} / +{2 * FILES} ", laptop.run("ccache --show-stats"))
