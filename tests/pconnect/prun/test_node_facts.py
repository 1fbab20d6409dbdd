"""Facts from real nodes."""

import os

import pytest

from pconnect import reval
from pconnect.prun.node_facts import node_facts
from pconnect.prun.placement import choose
from pconnect.prun.settings import Settings
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server, connect
from tests.support.waiting import DEADLINE, wait_until


def wait_for_slots(net: ClientNetwork) -> None:
    """Wait until the sessions know the slots of their servers."""
    wait_until(lambda: all(facts.slots for facts in node_facts(net)), "the slots to be known")


def test_nodes_tell_slots_programs_and_machine(two_slots: Server, one_slot: Server) -> None:
    with connect([two_slots, one_slot]) as net:
        wait_for_slots(net)
        first, second = node_facts(net, "sh", timeout=DEADLINE)
        assert (first.node, first.host, first.slots, first.running) == (1, two_slots.host, 2, 0)
        assert (second.node, second.host, second.slots, second.running) == (2, one_slot.host, 1, 0)
        assert first.has and first.cpus and first.memory and first.load is not None
        missing = node_facts(net, "no-such-program", timeout=DEADLINE)
        assert [facts.has for facts in missing] == [False, False]
        assert [facts.has for facts in node_facts(net)] == [None, None]
        with net[1].popen(["sleep", "600"], cwd="/") as program:
            wait_until(lambda: node_facts(net)[0].running == 1, "the slot to be taken")
            assert choose(node_facts(net), Settings()).nodes == (2, 1)
            program.kill()


@pytest.mark.slow
def test_an_engine_that_is_busy_or_gone_is_not_waited_for(two_slots: Server) -> None:
    with connect([two_slots, two_slots]) as net:
        busy = reval("import time; time.sleep(600)", net[1])
        wait_for_slots(net)
        first, second = node_facts(net, "sh", timeout=3.0)
        assert (first.has, first.memory, first.cpus) == (None, None, None)
        assert first.slots == 2 and first.load is not None  # the server has reported them
        assert second.has
        busy.cancel()
        os.kill(net[2].eval("import os; os.getpid()").result(), 9)
        wait_until(lambda: [facts.node for facts in node_facts(net, timeout=2)] == [1], "the loss to be seen")
