from pconnect import network_get_info
from pconnect.views.network_views import ClientNetwork

LIMIT = 20.0


def test_a_network_shows_the_work_of_each_node(network: ClientNetwork) -> None:
    busy = network[1].eval("precv(sockets[0])  # <b>")
    table = network._repr_html_()
    assert "precv(sockets[0]) # &lt;b&gt;" in table
    assert "this node" in table
    assert "MB" not in table
    network_get_info(network)
    assert "MB" in network[1]._repr_html_()
    network.mesh.connections[1].mesh.servers[1].interrupt()
    assert busy.exception(60) is not None
    assert "precv" not in network[1]._repr_html_()


def test_live_facts_as_a_table_with_units(network: ClientNetwork) -> None:
    table = network.info(timeout=LIMIT)
    facts = network_get_info(network)
    for name, key in (
        ("node", "node"),
        ("host", "host"),
        ("state", "state"),
        ("pid", "pid"),
        ("numpy", "numpy"),
    ):
        column = table.headings.index(name)
        assert [row[column] for row in table] == [each[key] for each in facts]
    sizes = [row[table.headings.index("memory (MB)")] for row in table]
    assert sizes[0] is None
    assert all(1 < int(str(size)) < 10_000 for size in sizes[1:])
    times = [row[table.headings.index("round trip (ms)")] for row in table[1:]]  # type: ignore[index]
    assert all(0 < float(str(time)) < LIMIT * 1000 for time in times)
    assert str(table).splitlines()[0].startswith("node  host")


def test_facts_of_a_part_and_of_one_node(network: ClientNetwork) -> None:
    assert [row[0] for row in network[1:].info(timeout=LIMIT)] == [1, 2]
    assert [row[0] for row in network[2].info(timeout=LIMIT)] == [2]
