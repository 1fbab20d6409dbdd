"""Interrupts at random moments in a loop of short commands: none is lost, and none hits another command."""

import os
import random
import time

import pytest

from pconnect import RemoteError, local_network, reval
from tests.support.waiting import DEADLINE

COUNT = int(os.environ.get("RANDOM_INTERRUPTS", "1000"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_interrupt_meets_its_command_or_comes_too_late() -> None:
    """The target of an interrupt ends by it or normally; commands before and after it run once and end normally."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    interrupted = begun_late = 0
    with local_network(1, slots=0) as net:
        peer = net.mesh.servers[1]  # type: ignore[attr-defined]
        reval("import time; done = []", net[1]).result(DEADLINE)
        expected = []
        for turn in range(COUNT):
            busy = chance.choice(["pass", "time.sleep(0.0005)", "sum(range(3000))"])
            before = reval(f"{busy}; done.append(('before', {turn}))", net[1])
            target = reval(f"{busy}; done.append(('target', {turn}))", net[1])
            until = time.perf_counter() + chance.random() * 0.0015
            if chance.random() < 0.5:
                while time.perf_counter() < until:
                    before.done()  # receives pending messages
            else:
                time.sleep(max(0.0, until - time.perf_counter()))
            target.cancel()
            after = reval(f"done.append(('after', {turn}))", net[1])
            before.result(DEADLINE)
            after.result(DEADLINE)
            error = target.exception(DEADLINE)
            assert error is None or (isinstance(error, RemoteError) and error.is_interrupt), (seed, turn)
            interrupted += error is not None
            begun_late += error is not None and "before it began" not in str(error)
            expected += [("before", turn), ("after", turn)]
        done = net[1].eval("done").result(DEADLINE)
        assert [entry for entry in done if entry[0] != "target"] == expected, seed
        assert not peer.running
        # All moments have occurred: before its start, while it ran, after its end.
        assert 0 < begun_late < interrupted < COUNT, seed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_none_is_lost() -> None:
    """An interrupt always ends an endless command, however soon after its start."""
    chance = random.Random(random.randrange(2**32))
    with local_network(1, slots=0) as net:
        peer = net.mesh.servers[1]  # type: ignore[attr-defined]
        for _ in range(COUNT):
            command = reval("while True: pass", net[1])
            time.sleep(chance.random() * 0.001)
            if chance.random() < 0.5:
                command.cancel()
            else:
                peer.interrupt(command.number)  # the same as Ctrl-C
            error = command.exception(DEADLINE)
            assert isinstance(error, RemoteError) and error.is_interrupt
        assert net[1].eval("6 * 7").result(DEADLINE) == 42
