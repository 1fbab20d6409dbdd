"""Deadlocks: in random programs, all of them are found, without false alarms; and the text of the error."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.errors import ProtocolError
from pconnect.protocol.wait_states import COMMAND_END, IDLE, State, Wait, pack_state
from pconnect.session.deadlock_detector import (
    BlockedNode,
    Rounds,
    concerned_nodes,
    deadlock_error,
    stuck_nodes,
)
from tests.support.examples import examples
from tests.support.simulation import End, Receive, Run, Send, Simulation, Step


def idle(size: int = 3) -> State:
    return State(0, 1, Wait(IDLE, (0,)), (0,) * size, (0,) * size)


def waits(*nodes: int, kind: str = "precv", size: int = 3, **options: Any) -> State:
    return State(7, 1, Wait(kind, nodes, **options), (0,) * size, (0,) * size)


# --- simulated programs ---


def random_program(chance: random.Random) -> tuple[int, list[Step]]:
    """Return a number of nodes and the client's steps: a program that works, or one with a defect."""
    size = chance.randint(2, 5)
    steps: dict[int, list[Send | Receive]] = {number: [] for number in range(size)}
    for _ in range(chance.randint(0, 10)):
        sender, receiver = chance.sample(range(size), 2)
        tag = chance.randint(0, 1)
        steps[sender].append(Send(receiver, tag))
        others: set[int] = {chance.randrange(size)} if chance.random() < 0.3 else set()
        from_whom = tuple({sender} | others - {receiver})
        steps[receiver].append(Receive(from_whom, tag, has_limit=chance.random() < 0.1))
    for _ in range(chance.choice([0, 0, 1, 2])):
        if chosen := steps[chance.randrange(size)]:
            step = chosen.pop(chance.randrange(len(chosen)))
            if chance.random() < 0.5:
                chosen.append(step)
    client: list[Step] = [*steps.pop(0)]
    for engine, own in steps.items():
        cut = chance.randint(0, len(own))
        client.insert(chance.randint(0, len(client)), Run(engine, tuple(own[cut:])))
        client.insert(0, Run(engine, tuple(own[:cut])))
    if chance.random() < 0.5:
        client.append(End(tuple(chance.sample(range(1, size), chance.randint(1, size - 1)))))
    return size, client


@examples(150)
@given(st.integers(0, 2**64 - 1))
def test_there_is_an_alarm_if_and_only_if_the_client_is_stuck(seed: int) -> None:
    chance = random.Random(seed)
    size, program = random_program(chance)
    simulation = Simulation(size, program, chance)
    for _ in range(1000):
        if not simulation.advance(probing=True) or simulation.alarm:
            break
    if not simulation.alarm:
        simulation.finish()
        simulation.search()
        assert bool(simulation.alarm) == bool(simulation.nodes[0].steps)
        return
    before = {node: simulation.state(node) for node in simulation.alarm}
    simulation.finish()
    after = {node: simulation.state(node) for node in simulation.alarm}
    assert {node: (s.command, s.serial) for node, s in after.items()} == {
        node: (s.command, s.serial) for node, s in before.items()
    }


def run_to_the_end(program: list[Step], size: int, seed: int) -> frozenset[int]:
    simulation = Simulation(size, program, random.Random(seed))
    for _ in range(200):
        if simulation.alarm or not simulation.advance(probing=True):
            break
    simulation.finish()
    simulation.search()
    return simulation.alarm


@pytest.mark.parametrize("seed", range(20))
def test_simulated_programs_that_work_and_that_do_not(seed: int) -> None:
    ring: list[Step] = [
        Run(1, (Receive((3,)), Send(2))),
        Run(2, (Receive((1,)), Send(3))),
        Run(3, (Receive((2,)), Send(1))),
    ]
    assert run_to_the_end([*ring, End((1,))], 4, seed) == {0, 1, 2, 3}
    assert run_to_the_end([*ring, Run(1, ())], 4, seed) == frozenset()
    wakes: list[Step] = [Run(1, (Receive((2,)),)), Run(2, (Receive((0,)), Send(1))), Send(2), End((1, 2))]
    assert run_to_the_end([*wakes], 3, seed) == frozenset()


# --- conclusions from the states of one moment ---


@pytest.mark.parametrize(
    ("states", "stuck"),
    [
        ({0: waits(1), 1: waits(0)}, {0, 1}),
        ({0: waits(1), 1: waits(2), 2: waits(1)}, {0, 1, 2}),
        ({0: waits(1), 1: idle()}, {0, 1}),
        ({0: waits(1), 1: waits(2)}, set()),  # node 2 computes
        ({0: waits(1), 1: waits(2), 2: waits(1)._replace(wait=None)}, set()),
        ({0: waits(2), 1: waits(0), 2: waits(0)._replace(wait=None)}, set()),
        ({0: waits(1, 2), 1: waits(0)}, set()),  # node 2 may still send
        ({0: waits(1, 2), 1: waits(0), 2: idle()}, {0, 1, 2}),
        ({0: waits(1, 2, every=True), 1: waits(0)}, {0, 1}),  # all are needed, and node 1 will never send
        ({0: waits(1, 2, every=True), 1: waits(2)}, set()),
        (
            {0: waits(1)._replace(listens=(2,)), 1: waits(0)},
            set(),
        ),  # the end of a command on node 2 calls a function here
        ({0: waits(1)._replace(sent=(0, 1, 0)), 1: waits(0)}, set()),  # a value is in transit to node 1
        (
            {0: waits(1)._replace(sent=(0, 0, 9)), 1: waits(0), 2: idle()},
            {0, 1},
        ),  # a value to node 2 does not help
        (
            {0: waits(1)._replace(received=(0, -1, 0)), 1: waits(0)._replace(sent=(-1, 0, 0))},
            set(),
        ),  # the connection is lost
    ],
)
def test_which_nodes_are_stuck(states: dict[int, State], stuck: set[int]) -> None:
    assert stuck_nodes(states) == stuck


def test_nodes_that_are_not_waited_for_are_not_concerned() -> None:
    states = {0: waits(1), 1: waits(0), 2: idle()}
    assert concerned_nodes(states, stuck_nodes(states)) == [0, 1]
    states = {0: waits(1, 2, every=True, kind=COMMAND_END), 1: waits(1)}
    assert concerned_nodes(states, [0, 1]) == [0, 1]


def test_the_text_of_the_error() -> None:
    states = {
        0: waits(1, 2, kind=COMMAND_END, every=True, size=4),
        1: waits(2, 3, kind="bcast", awaited=(2,), size=4),
        2: waits(1, tag=5, size=4)._replace(command=8),
        3: idle(4),
    }
    sources = {1: "bcast(a, sockets[1:])", 2: "def f():\n    precv(sockets[1])\nf()"}
    error = deadlock_error(states, [0, 1, 2, 3], ["client", "a", "b", "c"], sources)
    assert str(error) == (
        "deadlock: no node can make progress:\n"
        "  node 0 (client) waits for the end of a command on nodes 1, 2\n"
        "  node 1 (a) waits in bcast for node 2, in command 7: 'bcast(a, sockets[1:])'\n"
        "  node 2 (b) waits in precv(tag=5) for node 1, in command 8: 'def f():...'\n"
        "  node 3 (c) runs no command and waits for one"
    )
    assert error.waits[0] == BlockedNode(0, "client", None, COMMAND_END, (1, 2))
    assert error.waits[1] == (1, "a", "bcast(a, sockets[1:])", "bcast", (2,))


def test_only_the_stuck_ones_of_the_awaited_nodes_are_named() -> None:
    states = {0: waits(1, 2, every=True, kind=COMMAND_END), 1: waits(0)}
    assert deadlock_error(states, [0, 1], ["client", "a", "b"], {}).waits[0].waits_for == (1,)


# --- rounds ---

RUNNING = {1: {7}, 2: set[int]()}


def rounds_with(first: State, second: State, *, late: float = 0.0) -> Rounds:
    """Return the client's conclusions from two rounds of answers of nodes 1 and 2."""
    rounds = Rounds()
    own = waits(1)._replace(command=0)
    for now, state in ((0.0, first), (2.0, second)):
        assert rounds.begin(now, own, [1, 2]) == [1, 2]
        for node, answer in ((1, state), (2, idle())):
            rounds.take(node, rounds.number, pack_state(answer), now + 0.1 + late)
    return rounds


OWN = waits(1)._replace(command=0)


def test_states_that_are_the_same_in_two_rounds_held_at_one_moment() -> None:
    rounds = rounds_with(waits(0), waits(0))
    assert rounds.has_news
    assert rounds.unchanged(OWN, RUNNING) == {0: OWN, 1: waits(0), 2: idle()}
    assert not rounds.has_news


@pytest.mark.parametrize(
    "second",
    [
        waits(0)._replace(serial=2),
        waits(0)._replace(sent=(1, 0, 0)),
        waits(0)._replace(received=(0, 0, 1)),
        waits(0)._replace(command=8),
        waits(0)._replace(wait=None),
    ],
)
def test_a_node_that_has_done_something_is_left_out(second: State) -> None:
    assert set(rounds_with(waits(0), second).unchanged(OWN, {1: {7, 8}, 2: set()})) == {0, 2}


def test_an_answer_shortly_before_the_next_round_does_not_count() -> None:
    assert set(rounds_with(waits(0), waits(0), late=0.9).unchanged(OWN, RUNNING)) == {0}


def test_a_client_that_has_done_something_knows_nothing() -> None:
    assert rounds_with(waits(0), waits(0)).unchanged(OWN._replace(serial=2), RUNNING) == {}
    one = Rounds()
    one.begin(0.0, OWN, [1])
    one.take(1, 1, pack_state(waits(0)), 0.1)
    assert one.unchanged(OWN, RUNNING) == {}


def test_commands_in_transit_count() -> None:
    rounds = rounds_with(waits(0), waits(0))
    assert set(rounds.unchanged(OWN, {1: {7}, 2: {9}})) == {0, 1}  # an idle node, and one more command
    assert set(rounds.unchanged(OWN, {1: {9}, 2: set()})) == {0, 2}  # a command that has ended since


def test_a_node_is_asked_again_only_after_its_answer() -> None:
    rounds = Rounds()
    assert rounds.begin(0.0, OWN, [1, 2]) == [1, 2]
    rounds.take(1, 1, pack_state(waits(0)), 0.1)
    assert rounds.begin(2.0, OWN, [1, 2]) == [1]
    rounds.take(2, 1, pack_state(idle()), 2.1)  # too late
    rounds.take(1, 2, pack_state(waits(0)), 2.1)
    assert set(rounds.unchanged(OWN, RUNNING)) == {0, 1}
    assert rounds.begin(4.0, OWN, [1, 2]) == [1, 2]


def test_an_engine_that_has_ended_owes_no_answer_and_its_state_is_forgotten() -> None:
    rounds = rounds_with(waits(0), waits(0))
    rounds.forget(1)
    assert set(rounds.unchanged(OWN, RUNNING)) == {0, 2}
    rounds.begin(4.0, OWN, [1])
    rounds.forget(1)
    assert rounds.begin(6.0, OWN, [1]) == [1]


def test_answers_without_a_question_are_refused() -> None:
    rounds = Rounds()
    with pytest.raises(ProtocolError, match="without a PROBE"):
        rounds.take(1, 0, pack_state(idle()), 0.0)
    rounds.begin(0.0, OWN, [1])
    with pytest.raises(ProtocolError, match="without a PROBE"):
        rounds.take(1, 2, pack_state(idle()), 0.0)
