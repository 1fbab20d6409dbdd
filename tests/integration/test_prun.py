"""`prun`: programs on servers, with streams, signals and exit status as if they ran here."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.prun import FRONTS, Prun, prun_user
from tests.support.servers import Server
from tests.support.small_programs import GIVEN, PROGRAMS, Row, here, quick

# Number of runs of each quick program; set `PRUN_REPETITIONS` to change it.
REPETITIONS = int(os.environ.get("PRUN_REPETITIONS", "15"))
OPTIONS = [f"--env={name}={value}" for name, value in GIVEN.items()]


@pytest.fixture(scope="module", params=FRONTS)
def user(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, two_servers: list[Server]
) -> Iterator[Prun]:
    with prun_user(tmp_path_factory.mktemp("prun"), two_servers) as user:
        user.environment |= FRONTS[request.param]
        yield user


@pytest.mark.parametrize(("words", "data"), [row[1:] for row in PROGRAMS], ids=[row[0] for row in PROGRAMS])
def test_it_is_as_here(user: Prun, words: list[str | bytes], data: bytes, tmp_path: Path) -> None:
    assert_as_here(user, words, data, tmp_path)


def assert_as_here(user: Prun, words: list[str | bytes], data: bytes, folder: Path) -> None:
    expected = here(words, data, folder)
    done = user.run(*OPTIONS, *words, input=data, cwd=folder)
    status = 128 - expected.returncode if expected.returncode < 0 else expected.returncode
    assert (done.returncode, done.stdout, done.stderr) == (status, expected.stdout, expected.stderr)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_in_any_of_many_runs(user: Prun, tmp_path: Path) -> None:
    def repeat(row: Row) -> None:
        for _ in range(REPETITIONS):
            assert_as_here(user, row[1], row[2], tmp_path)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(repeat, quick()))
