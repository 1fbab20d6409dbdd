"""The nodes that may run a program, their order, and the reasons for excluding the rest."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.errors import ConfigurationError
from pconnect.prun.placement import NodeFacts, NoNodeError, choose, describe_load
from pconnect.prun.settings import Settings

NODES = [
    NodeFacts(1, "alpha", 4, running=2, memory=4 * 2**30, cpus=4, load=2.0, has=True),
    NodeFacts(2, "alpha:4000", 4, running=1, memory=16 * 2**30, cpus=4, load=3.0, has=False),
    NodeFacts(3, "[::1]:4001", 2, running=2, memory=16 * 2**30, cpus=8, load=0.1),
    NodeFacts(4, "gamma", 8, running=2, memory=16 * 2**30, cpus=8, load=0.1),
]


@pytest.mark.parametrize(
    ("settings", "nodes"),
    [
        (Settings(), (4, 2, 1, 3)),  # slots in use, then the load; the node without a free slot is last
        (Settings(ordered=True), (1, 2, 4, 3)),
        (Settings(on=("alpha",)), (2, 1)),
        (Settings(on=("alpha:4000",)), (2,)),
        (Settings(on=("3", "gamma", "alpha"), ordered=True), (4, 1, 2, 3)),
        (Settings(on=("4", "1"), ordered=True), (4, 1)),
        (Settings(on=("1", "4"), ordered=True), (1, 4)),
        (Settings(on=("::1",)), (3,)),
        (Settings(on=("al*", "4")), (4, 2, 1)),
        (Settings(accept="memory>8G and cpus==8"), (4, 3)),
        (Settings(accept="host==alpha and node!=1"), (2,)),
        (Settings(needs=True), (4, 1, 3)),  # a node that was not asked may have it
    ],
)
def test_the_nodes_that_may_run_it_come_in_their_order(settings: Settings, nodes: tuple[int, ...]) -> None:
    choice = choose(NODES, settings)
    assert choice.nodes == nodes
    assert set(choice.reasons) == {1, 2, 3, 4} - set(nodes)


def test_between_nodes_with_as_many_free_slots_the_load_of_a_processor_counts() -> None:
    small, large = NodeFacts(1, "a", 2, cpus=2, load=1.0), NodeFacts(2, "b", 2, cpus=8, load=2.0)
    assert choose([small, large], Settings()).nodes == (2, 1)
    assert choose([small, replace(large, load=8.0)], Settings()).nodes == (1, 2)
    assert choose([small, replace(large, load=None)], Settings()).nodes == (2, 1)


def test_a_choice_says_why() -> None:
    assert choose(NODES, Settings()).why == "the least loaded: 2 of 8 slots taken, load 0.1"
    assert choose(NODES, Settings(ordered=True)).why == "the first in the given order with a free slot"
    assert choose(NODES, Settings(on=("1",))).why == "the only node that may run it"
    assert (
        choose([NODES[2], replace(NODES[2], node=5)], Settings()).why
        == "all slots are taken; the program waits for one"
    )


def test_an_error_says_of_each_node_why_not() -> None:
    nodes = [*NODES, NodeFacts(5, "delta", 0)]
    with pytest.raises(NoNodeError) as caught:
        choose(nodes, Settings(on=("alpha", "delta"), accept="memory>8G", needs=True), "clang")
    assert str(caught.value).splitlines() == [
        "no server may run clang:",
        "  node 1 (alpha): memory is 4.0G, not >8G",
        "  node 2 (alpha:4000): it has no clang",
        "  node 3 ([::1]:4001): not named by --on alpha, delta",
        "  node 4 (gamma): not named by --on alpha, delta",
        "  node 5 (delta): it has no slots",
    ]
    assert set(caught.value.reasons) == {1, 2, 3, 4, 5}
    with pytest.raises(NoNodeError, match="there is no server"):
        choose([], Settings())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gama", r"no server is called 'gama' \(did you mean gamma\?\)"),
        ("x", r"'x' \(known: alpha, alpha:4000, \[::1\]:4001, gamma\)"),
        ("0", r"'0' \(there are nodes 1, 2, 3, 4\)"),
        ("alpha:1", r"'alpha:1' \(did you mean alpha\?\)"),
        ("z*", r"no server is called 'z\*'"),
    ],
)
def test_a_name_of_no_server_is_an_error(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        choose(NODES, Settings(on=("gamma", name)))


def test_a_server_that_is_missing_is_said_to_be() -> None:
    nodes = [
        *NODES,
        NodeFacts(5, "delta", 0, missing="it was lost"),
        NodeFacts(-1, "omega", 0, missing="Connection refused"),
    ]
    with pytest.raises(NoNodeError, match=r"^omega is missing: Connection refused$") as caught:
        choose(nodes, Settings(on=("omega",)))
    assert caught.value.reasons == {-1: "Connection refused"}
    with pytest.raises(NoNodeError, match=r"^delta is missing: it was lost$"):
        choose(nodes, Settings(on=("5",)))
    choice = choose(nodes, Settings(on=("omega", "gamma")))
    assert (choice.nodes, choice.reasons[-1]) == ((4,), "it is missing: Connection refused")
    with pytest.raises(NoNodeError, match=r"(?m)^  omega: it is missing: Connection refused$"):
        choose(nodes, Settings(on=("omega", "gamma"), accept="cpus>9999"))
    assert "omega" not in str(describe_load(nodes))


def test_the_load_is_a_table() -> None:
    assert str(describe_load([*NODES[:2], NodeFacts(3, "x", 1)])).splitlines() == [
        "node  host        slots          load  cpus  free memory",
        "   1  alpha       2 of 4 in use   2.0     4  4.0G",
        "   2  alpha:4000  1 of 4 in use   3.0     4  16.0G",
        "   3  x           0 of 1 in use",
    ]


FACTS = st.builds(
    NodeFacts,
    st.integers(1, 99),
    st.sampled_from(["alpha", "beta:1"]),
    st.integers(0, 4),
    st.integers(0, 6),
    st.sampled_from([None, True, False]),
    st.none() | st.integers(0, 2**40),
    st.none() | st.integers(1, 64),
    st.none() | st.floats(0, 99),
)


@given(
    st.lists(FACTS, unique_by=lambda each: each.node),
    st.booleans(),
    st.sampled_from(["", "memory>1G or load<3"]),
)
def test_each_node_is_taken_or_has_a_reason(facts: list[NodeFacts], ordered: bool, accept: str) -> None:
    settings = Settings(ordered=ordered, accept=accept, needs=True)
    try:
        choice = choose(facts, settings)
    except NoNodeError as error:
        assert set(error.reasons) == {each.node for each in facts}
        return
    assert sorted([*choice.nodes, *choice.reasons]) == sorted(each.node for each in facts)
    by_number = {each.node: each for each in facts}
    free = [by_number[node].is_free for node in choice.nodes]
    assert free == sorted(free, reverse=True)
