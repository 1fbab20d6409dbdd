"""Ctrl-C in a waiting client: it raises there and in the remote command, and the network survives."""

import pytest

from tests.support.clients import ClientProcess
from tests.support.servers import Server
from tests.support.waiting import wait_gone

# The remote command reports that it has begun, and afterwards how it ended.
BUSY = """
command = reval('''
import time
outcome = "not interrupted"
try:
    psend("begun", sockets[0], tag=1)
    time.sleep(1000)
except KeyboardInterrupt:
    outcome = "interrupted"
    raise
''', net)
for c in net[1:]: precv(c, tag=1)
"""
AFTERWARDS = """
try:
    command.result(10)
except Exception as error:
    say(*sorted({type(e).__name__ + " " + getattr(e, "type_name", "") for e in getattr(error, "exceptions", [error])}))
reval("psend(outcome, sockets[0])", net)
say(*[precv(c, timeout=10) for c in net[1:]])
say("closed", sclose(net))
"""
WAIT = """
begin = time.monotonic()
try:
    say("waits")
    {wait}
except KeyboardInterrupt:
    say("KeyboardInterrupt")
"""


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [("command.result()", 2.0), ("precv(net[1])", 2.0), ("select_sockets(net)", 2.0)],
)
def test_ctrl_c_while_waiting(server: Server, wait: str, seconds: float) -> None:
    with ClientProcess(BUSY + WAIT.format(wait=wait) + AFTERWARDS, server) as client:
        assert client.line() == "waits"
        client.interrupt_while_waiting()
        assert client.line(seconds) == "KeyboardInterrupt"
        assert client.line() == "RemoteError KeyboardInterrupt"
        assert client.line() == "interrupted"
        assert client.line() == "closed []"


def test_ctrl_c_interrupts_all_nodes_that_are_waited_for(server: Server) -> None:
    with ClientProcess(BUSY + WAIT.format(wait="command.result()") + AFTERWARDS, server, server) as client:
        assert client.line() == "waits"
        client.interrupt_while_waiting()
        assert client.line(2) == "KeyboardInterrupt"
        assert client.line() == "RemoteError KeyboardInterrupt"
        assert client.line() == "interrupted interrupted"
        assert client.line() == "closed []"


def test_ctrl_c_while_sending_keeps_the_value(server: Server) -> None:
    script = """
command = reval('''
import time
try:
    psend("begun", sockets[0])
    time.sleep(1000)
except KeyboardInterrupt:
    pass
a = precv(sockets[0])
psend((a.nbytes, int(a.min()), int(a.max())), sockets[0])
''', net)
precv(net[1])
a = np.full(2**27, 7, np.uint8)
try:
    say("waits")
    psend(a, net)
except KeyboardInterrupt:
    say("KeyboardInterrupt")
a[:] = 0
say(*precv(net[1], timeout=20))
say("closed", sclose(net))
"""
    with ClientProcess(script, server) as client:
        assert client.line() == "waits"
        client.interrupt_while_waiting()
        assert client.line(3) == "KeyboardInterrupt"
        assert client.line() == f"{2**27} 7 7"
        assert client.line() == "closed []"


@pytest.mark.slow
def test_second_ctrl_c_kills_the_engine(server: Server) -> None:
    script = """
say(network_get_info(net)[1]["pid"])
command = reval('''
import time
def stubborn():
    while True:
        try:
            psend("begun", sockets[0])
            time.sleep(1000)
        except KeyboardInterrupt:
            psend("ignored", sockets[0])
stubborn()
''', net[1])
precv(net[1])
for time in range(2):
    try:
        say("waits")
        command.result()
    except KeyboardInterrupt:
        say("KeyboardInterrupt")
    if time == 0:
        say(precv(net[1], timeout=10), precv(net[1], timeout=10))
try:
    command.result(10)
except EngineDiedError as error:
    say(error)
reval("psend('alive', sockets[0])", net[2])
say(precv(net[2], timeout=10))
"""
    with ClientProcess(script, server, server) as client:
        pid = int(client.line())
        assert client.line() == "waits"
        client.interrupt_while_waiting()
        assert client.line(2) == "KeyboardInterrupt"
        assert client.line() == "ignored begun"
        assert client.line() == "waits"
        client.interrupt_while_waiting()
        assert client.line(2) == "KeyboardInterrupt"
        wait_gone(pid)
        assert "engine of node 1" in (last := client.line())
        assert "died: SIGKILL in command" in last
        assert client.line() == "alive"


def test_queued_commands_after_the_one_waited_for_are_not_interrupted(server: Server) -> None:
    script = (
        BUSY
        + "reval('outcome += \" and gone on\"', net)\n"
        + WAIT.format(wait="command.result()")
        + AFTERWARDS
    )
    with ClientProcess(script, server) as client:
        assert client.line() == "waits"
        client.interrupt_while_waiting()
        assert client.line(2) == "KeyboardInterrupt"
        assert client.line() == "RemoteError KeyboardInterrupt"
        assert client.line() == "interrupted and gone on"
        assert client.line() == "closed []"


def test_ctrl_c_while_connecting_leaves_nothing(server: Server) -> None:
    script = """
import gc, socket
with socket.create_server(("127.0.0.1", 0)) as silent:
    before = os.listdir("/proc/self/fd")
    try:
        say("waits")
        pconnect([net[1].host, silent.getsockname()])
    except KeyboardInterrupt:
        say("KeyboardInterrupt")
    gc.collect()
    say("open as before", os.listdir("/proc/self/fd") == before)
reval("psend('alive', sockets[0])", net)
say(precv(net[1], timeout=10))
"""
    with ClientProcess(script, server) as client:
        assert client.line() == "waits"
        client.interrupt_while_waiting()
        assert client.line(2) == "KeyboardInterrupt"
        assert client.line() == "open as before True"
        assert client.line() == "alive"
