"""The table of servers, for a real network."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from srp_tools.credentials import Credentials
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[list[Server]]:
    """Start two servers that the test may stop."""
    folder = tmp_path_factory.mktemp("pair")
    with (
        run_server(folder / "a", "--slots=1", users=users) as first,
        run_server(folder / "b", "--slots=1", users=users) as second,
    ):
        yield [first, second]


def test_a_row_for_each_server_and_what_becomes_of_it(pair: list[Server]) -> None:
    first, second = pair
    with connect([first, second, first]) as net:
        assert list(net.map(abs, range(20))) == list(range(20))
        table = net.statistics(timeout=DEADLINE)
        wait_until(
            lambda: sum(int(str(row[2])) for row in table.update(timeout=DEADLINE)) == 20, "the counts"
        )
        assert [row[0] for row in table] == [first.host, second.host]
        assert [row[-1] for row in table] == ["open", "open"]
        documents = table.to_dict()
        truth = {server.host: server.ask("statistics")["totals"]["jobs_done"] for server in pair}
        assert {
            host: document and document["totals"]["jobs_done"] for host, document in documents.items()
        } == truth
        assert json.loads(table.to_json()).keys() == truth.keys()
        frame = table.to_pandas()
        assert list(frame["processed"]) == [row[2] for row in table] and len(frame.columns) == 15
        assert f"<td>{first.host}</td>" in table._repr_html_() and first.host in repr(table)
        assert len(net[2].statistics(timeout=DEADLINE)) == 1

        os.kill(second.process.pid, signal.SIGSTOP)
        table.update(timeout=2.0)
        assert [row[-1] for row in table] == ["open", "does not answer"]
        assert table[1][2] == truth[second.host]  # the last known figures
        os.kill(second.process.pid, signal.SIGCONT)
        wait_until(lambda: table.update(timeout=1.0)[1][-1] == "open", "the server that is there again")

        second.process.kill()
        wait_until(
            lambda: table.update(timeout=1.0)[1][-1] == "its server has ended, or is busy",
            "the end of the server",
        )
        assert net.statistics(timeout=1.0)[1][2] is None  # it has never answered
        assert table[0][-1] == "open"
