"""`make` compiles a C project on three servers that do not have its sources.

The machines are namespaces of this one, each with a private home.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.c_project import write_project
from tests.support.compile_machines import (
    CLIENT,
    SERVERS,
    compile_machines,
    end_processes,
    is_serving,
    report,
    start_server,
)
from tests.support.machines import Machine
from tests.support.programs import program
from tests.support.waiting import wait_until

FILES = 104
JOBS = 6


def files(folder: Path) -> dict[str, bytes]:
    """Return all object and dependency files of a build."""
    return {path.name: path.read_bytes() for path in (folder / "obj").iterdir()}


def make(client: Machine, options: str = "") -> str:
    """Rebuild the project; return the output of `make`."""
    client.run("make -s clean")
    return client.run(f"make -s -j{JOBS} {options} 2>&1")


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Machine]]:
    for name, package in {"gcc": "gcc", "make": "make"}.items():
        program(name, package)
    with compile_machines(tmp_path_factory.mktemp("machines"), ["gcc"]) as machines:
        client = machines[CLIENT]
        write_project(client.home / "project", FILES)
        client.run("cd project && shadowed=$PATH")
        for name in SERVERS:
            assert machines[name].run(f"ls -A {client.home}") == ""
        yield machines


@pytest.fixture(scope="module")
def local(machines: dict[str, Machine]) -> dict[str, bytes]:
    """Return the files of a build without stand-ins."""
    client = machines[CLIENT]
    client.run("PATH=${PATH#*shadow/bin:}")
    assert make(client) == ""
    client.run("PATH=$shadowed")
    made = files(client.home / "project")
    assert len(made) == 2 * FILES
    return made


@pytest.fixture
def client(machines: dict[str, Machine]) -> Machine:
    """Yield the client, with all servers running and an agent whose counts begin at zero."""
    client = machines[CLIENT]
    for name in SERVERS:
        if not is_serving(machines[name]):
            start_server(client, machines[name])
    client.attempt("prun --agent stop")
    return client


def away(counts: dict[str, int]) -> int:
    return sum(counts.get(name, 0) for name in SERVERS)


@pytest.mark.slow
def test_all_objects_are_those_of_this_machine(client: Machine, local: dict[str, bytes]) -> None:
    assert make(client) == ""
    assert files(client.home / "project") == local
    counts = report(client)
    assert {name for name in SERVERS if counts.get(name)} == set(SERVERS)
    assert away(counts) == FILES  # the agent is not even asked about link steps


@pytest.mark.slow
def test_a_server_that_is_killed_in_the_middle_costs_nothing(
    machines: dict[str, Machine], client: Machine, local: dict[str, bytes]
) -> None:
    objects = client.home / "project" / "obj"
    client.run("make -s clean")
    client.run(f"make -s -j{JOBS} > log 2>&1 &")
    wait_until(lambda: len(list(objects.glob("*.o"))) >= FILES // 4, "the first objects")
    end_processes(machines["alpha"])
    assert len(list(objects.glob("*.o"))) < FILES
    client.run("wait $!")  # with the compiler's status
    assert (client.home / "project" / "log").read_text() == ""
    assert files(client.home / "project") == local
    counts = report(client)
    assert counts.get("alpha", 0) > 0
    assert away(counts) == FILES, counts  # other servers took over the lost steps


@pytest.mark.slow
def test_a_mistake_in_the_source_is_shown_once(client: Machine) -> None:
    client.run("cp src/module7.c kept.c && sed -i 's/double sum = 0;/double sum = O;/' src/module7.c")
    try:
        client.run("make -s clean")
        status, shown = client.attempt(f"make -s -k -j{JOBS} 2>&1")
        expected = client.attempt("PATH=${PATH#*shadow/bin:} make -s -k obj/module7.o 2>&1")[1]
    finally:
        client.run("mv kept.c src/module7.c")
    assert status == 2
    error = "src/module7.c:11:18: error: "
    assert shown.count(error) == expected.count(error) == 1
    of_compiler, expected_of_it = (text.partition("make: ")[0] for text in (shown, expected))
    assert of_compiler == expected_of_it
    counts = report(client)
    assert away(counts) == FILES
    assert "here" not in counts
    assert [line.split()[3] for line in client.run("prun --report").splitlines()[1:]].count("1") == 1


@pytest.mark.slow
def test_without_any_server_it_is_done_here(
    machines: dict[str, Machine], client: Machine, local: dict[str, bytes]
) -> None:
    make(client)
    for name in SERVERS:
        end_processes(machines[name])
    assert make(client) == ""
    assert files(client.home / "project") == local
    assert away(report(client)) == FILES  # the earlier ones
