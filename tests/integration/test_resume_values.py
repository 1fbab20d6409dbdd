"""The fate of values in transit when a client is killed: kept, repeated or lost."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pconnect import RemoteError, precv, psend
from srp_tools import Credentials
from tests.support.clients import ClientProcess
from tests.support.resuming import client, come_back, kill
from tests.support.servers import Server, run_server

pytestmark = pytest.mark.slow
LIMIT = 20.0
# Waits for the first part of a value, and stops.
HALF = """
while not net[1].arriving_bytes[0]:
    net.mesh.event_loop.poll(0.1)
say("ready")
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def server(tmp_path: Path, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Yield a server whose sessions wait for five minutes."""
    with run_server(tmp_path / "waits", "--orphan-timeout=5", "--shared-account", users=users) as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "resume"


def test_values_that_were_not_taken_are_there_once_and_those_taken_are_not(
    file: Path, server: Server
) -> None:
    script = (
        "net.eval('for k in range(5): psend(k, sockets[0], tag=1)').result(); "
        "[precv(net[1], tag=1) for _ in range(2)]; "
        "net.eval('import numpy as np; psend(np.arange(10**6), sockets[0])').result()"
    )
    with client(file, script, server) as process:
        kill(process, server)
    with come_back(file, server) as net:
        assert [precv(net[1], tag=1, timeout=LIMIT) for _ in range(3)] == [2, 3, 4]
        assert precv(net[1], timeout=LIMIT).tolist() == list(range(10**6))
        assert net.values_lost == {1: 0}
        net.eval("psend('next', sockets[0], tag=1)").result(LIMIT)
        assert precv(net[1], tag=1, timeout=LIMIT) == "next"


def test_a_client_that_dies_in_the_middle_of_a_value_gets_it_whole(file: Path, server: Server) -> None:
    """The client is stopped while the value is in transit, and killed in this state."""
    script = "command = net.eval('import numpy as np; psend(np.arange(6 * 10**6), sockets[0]); 7')\n" + HALF
    with ClientProcess(script, server, resume=str(file)) as process:
        kill(process, server)
    with come_back(file, server) as net:
        assert np.array_equal(precv(net[1], timeout=LIMIT), np.arange(6 * 10**6))
        assert net.commands[0].result(LIMIT) == 7


def test_a_value_that_is_larger_than_what_is_kept_is_lost_and_counted(file: Path, server: Server) -> None:
    """The result of a command is lost, too. Both losses are reported, and assigned variables survive."""
    script = "command = net.eval('import numpy as np; x = np.ones(10**7); psend(x, sockets[0]); x')\n" + HALF
    with ClientProcess(script, server, resume=str(file)) as process:
        kill(process, server)
    with come_back(file, server) as net:
        with pytest.raises(RemoteError, match=r"its value of 80000\d+ bytes is no longer kept"):
            net.commands[0].result(LIMIT)
        assert net.values_lost == {1: 1}
        assert net.eval("x.sum()").result(LIMIT) == [10**7]


def test_what_the_client_had_sent_whole_is_there_and_half_a_value_is_not(file: Path, server: Server) -> None:
    script = (
        "psend('whole', net[1], tag=2)\n"
        "net.eval('import time; time.sleep(2)')\n"
        "def die_in_the_middle():\n"
        "    while not 0 < net[1].unsent_bytes < 2 * 10**8: pass\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "import threading; threading.Thread(target=die_in_the_middle).start()\n"
        "say('ready')\npsend(np.zeros(30 * 10**6), net[1], tag=2)"
    )
    with ClientProcess(script, server, resume=str(file)) as process:
        kill(process, server)
    with come_back(file, server) as net:
        psend("from the next one", net[1], tag=2)
        got = net.eval("precv(sockets[0], tag=2), precv(sockets[0], tag=2)").result(LIMIT)
        assert got == [("whole", "from the next one")]


def test_what_is_sent_while_nobody_is_there_waits_and_a_receive_goes_on(file: Path, server: Server) -> None:
    source = (
        "import time\ntime.sleep(0.5)\npsend(1, sockets[0])\nx = precv(sockets[0])\n"
        "psend(np.ones(10**6) * x, sockets[0])\n'done'"
    )
    script = f"net.eval('import numpy as np').result(); run = net.eval({source!r})"
    with client(file, script, server) as process:
        kill(process, server)
    with come_back(file, server) as net:
        assert precv(net[1], timeout=LIMIT) == 1
        psend(3, net[1])
        assert precv(net[1], timeout=LIMIT).sum() == 3 * 10**6
        assert net.commands[-1].result(LIMIT) == "done"


def test_a_collective_call_with_the_client_fails_at_the_engines(file: Path, server: Server) -> None:
    script = "net.eval('allreduce(1, sockets)')"
    with client(file, script, server, server) as process:
        kill(process, server)
    with come_back(file, server) as net:
        for command in net.commands:
            with pytest.raises(RemoteError, match="the client disconnected during the call"):
                command.result(LIMIT)
        assert net.eval("1").result(LIMIT) == [1, 1]
