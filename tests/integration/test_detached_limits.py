"""Jobs that an executor, a pool or a map holds back on the client, after the client has left."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import ConfigurationError, CredentialError, JobLostError, pconnect
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.clients import ClientProcess
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.slow
COUNT = 40
_SCRIPT = """
folder = {folder!r}
def nap(k):
    import os, time
    begin = time.monotonic()
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)
    with open(os.path.join(folder, str(k)), "ab") as file:
        file.write(b"x")
    time.sleep(0.03)
    return k, begin, time.monotonic()
{submission}
say(net.detach())
time.sleep({seconds})
"""
_SUBMISSIONS = {
    "executor": "executor = net.executor(max_workers={limit})\n"
    "jobs = [executor.submit(nap, k) for k in range({count})]",
    "pool": "result = net.pool({limit}).map_async(nap, range({count}), chunksize=1)",
    "pool of an executor": "result = net.pool(100, max_workers={limit}).map_async(nap, range({count}), chunksize=1)",
    "map": "results = net.map(nap, range({count}), max_workers={limit})\n"
    "import threading\nthreading.Thread(target=next, args=[results], daemon=True).start()\n"
    "while len(net.mesh.jobs.throttles) == 0: time.sleep(0.01)",
}
Nap = tuple[int, float, float]


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[list[Server]]:
    """Two servers, with two and three slots."""
    folders = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    with (
        run_server(folders[0], "--slots=2", f"--spool-dir={folders[0] / 'spool'}", users=users) as first,
        run_server(folders[1], "--slots=3", f"--spool-dir={folders[1] / 'spool'}", users=users) as second,
    ):
        yield [first, second]


def recover(server: Server, token: str) -> ClientNetwork:
    login = {"user": server.credentials.user, "password": server.credentials.password}
    return pconnect(recover=token, timeout=DEADLINE, **login)  # type: ignore[arg-type]


def most_at_a_time(naps: list[Nap]) -> int:
    return max(sum(begin <= start < end for _, begin, end in naps) for _, start, _ in naps)


@pytest.mark.parametrize("way", _SUBMISSIONS)
@pytest.mark.parametrize(("limit", "is_killed"), [(1, False), (3, True)])
def test_another_process_gets_all_results_and_the_limit_holds(
    way: str, limit: int, is_killed: bool, servers: list[Server], tmp_path: Path
) -> None:
    submission = _SUBMISSIONS[way].format(limit=limit, count=COUNT)
    script = _SCRIPT.format(folder=str(tmp_path), submission=submission, seconds=60 if is_killed else 0)
    with ClientProcess(script, *servers) as client:
        token = client.line()
        if is_killed:
            client.process.kill()
        client.process.wait(DEADLINE)
    (tmp_path / "go").touch()
    with recover(servers[0], token) as net:
        results = [job.result(DEADLINE) for job in net.jobs.values()]
    naps: list[Nap] = [tuple(found[0] if isinstance(found, list) else found) for found in results]
    assert [k for k, _, _ in naps] == list(range(COUNT))
    assert most_at_a_time(naps) == limit
    marks = {path.name: path.stat().st_size for path in tmp_path.iterdir() if path.name != "go"}
    assert marks == {str(k): 1 for k in range(COUNT)}
    for server in servers:
        wait_until(lambda server=server: not server.status_now()["sessions"], "the end of the sessions")  # type: ignore[misc]


def nap(k: int, folder: Path) -> Nap:
    begin = time.monotonic()
    if k % 7 == 0 and not (mark := folder / str(k)).exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return k, begin, time.monotonic()


def test_two_limits_and_none_while_workers_die(servers: list[Server], tmp_path: Path) -> None:
    net = connect(servers)
    two, one = net.executor(max_workers=2, retries=2), net[1].executor(max_workers=1, retries=2, isolate=True)
    of_two = [two.submit(nap, k, tmp_path) for k in range(12)]
    of_one = [one.submit(nap, k, tmp_path) for k in range(100, 105)]
    free = [net.submit(nap, k, tmp_path) for k in range(201, 203)]
    numbers = [[job.number for job in jobs] for jobs in (of_two, of_one, free)]
    token = net.detach()
    here = {job.number: job.result() for job in (*of_two, *of_one, *free) if job.exception(0) is None}
    for job in (*of_two, *of_one, *free):
        assert job.number in here or "recover it with the token" in str(job.exception(0))
    with recover(servers[0], token) as net:
        here |= {number: job.result(DEADLINE) for number, job in net.jobs.items()}
        assert {net.jobs[number].node for number in numbers[1] if number in net.jobs} == {1}
    found = [[here[number] for number in group] for group in numbers]
    assert [[k for k, _, _ in group] for group in found] == [[*range(12)], [*range(100, 105)], [201, 202]]
    assert most_at_a_time(found[0]) <= 2
    assert most_at_a_time(found[1]) == 1


def test_held_back_jobs_are_unchanged_if_the_network_cannot_be_detached(
    servers: list[Server], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with connect(servers) as net:
        executor = net.executor(max_workers=2)
        jobs = [executor.submit(nap, k, tmp_path) for k in range(1, 7)]
        with pytest.raises(CredentialError):
            net.detach(path=tmp_path / "file" / "token")
        naps = [job.result(DEADLINE) for job in jobs]
    assert [k for k, _, _ in naps] == [1, 2, 3, 4, 5, 6]
    assert most_at_a_time(naps) <= 2


def test_a_map_of_unknown_length_prevents_detaching(servers: list[Server]) -> None:
    with connect(servers) as net:
        results = net.map(abs, iter(range(-500, 0)), max_workers=2)
        found = [next(results)]
        with pytest.raises(
            ConfigurationError, match=r"a map has not read all of its inputs.*submitted: \d+\)"
        ):
            net.detach()
        found += results
        assert found == list(range(500, 0, -1))
        unordered = net.pool(2).imap_unordered(abs, iter(range(500)))
        with pytest.raises(ConfigurationError, match="their number is unknown"):
            net.detach()
        del unordered
        job = net.submit(time.sleep, 1)
        net.detach()
        assert isinstance(job.exception(0), JobLostError)


def test_the_iterator_of_a_map_keeps_the_results_that_have_arrived(servers: list[Server]) -> None:
    def wait_for_some(k: int) -> int:
        time.sleep(60 if k == 1 else 0)
        return k

    net = connect(servers)
    results = net.map(wait_for_some, range(200), on_error="return", max_workers=2)
    assert next(results) == 0
    here, numbers = list(results_after_detaching(net, results)), range(1, 200)
    kept = [k for k, found in zip(numbers, here, strict=True) if found == k]
    lost = [found for found in here if isinstance(found, Exception)]
    assert len(kept) + len(lost) == 199
    assert all("recover it with the token" in str(error) for error in lost)


def results_after_detaching(net: ClientNetwork, results: Iterator[object]) -> Iterator[object]:
    time.sleep(0.5)
    token = net.detach()
    yield from results
    assert token
