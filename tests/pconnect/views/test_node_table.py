from pconnect import network_get_info
from pconnect.views.network_views import ClientNetwork


def test_a_network_tells_what_each_node_does(network: ClientNetwork) -> None:
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
