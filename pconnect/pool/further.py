"""The servers of a pool that a network does not have: they are new, or were not reached."""

from collections.abc import Iterable, Mapping
from typing import Any

from pconnect.link.host_names import Host
from pconnect.pool.closure import hosts_of
from pconnect.pool.neighbours import ask_neighbours
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.server import Server
from srp_tools.steps import deadline_after

Answers = Mapping[int, Mapping[str, Any]]


def survey(mesh: ClientMesh, nodes: Iterable[int], timeout: float) -> tuple[dict[int, list[Server]], Answers]:
    """Ask the servers of some nodes for the servers that they know.

    Returns the nodes on each server, and the server's answer, both by the first of its nodes. Servers that do not
    answer within `timeout` seconds are left out.
    """
    mesh.check_open()
    there: dict[tuple[str, int], list[Server]] = {}
    for node in nodes:
        if (server := mesh.servers.get(node)) is not None:
            there.setdefault((server.location.address, server.location.cmd_port), []).append(server)
    asked = [servers[0] for servers in there.values()]
    answers = ask_neighbours(asked, mesh.event_loop, mesh.next_number, deadline_after(timeout))
    return {servers[0].node: servers for servers in there.values() if servers[0].node in answers}, answers


def further_hosts(mesh: ClientMesh, timeout: float = 5.0) -> dict[str, list[Host]]:
    """Return the addresses of servers that the network has never had but its servers know, by id.

    Servers that are gone, or have not answered yet, are left out. The addresses are in the order in which to try them;
    a different server may answer there.
    """
    servers, answers = survey(mesh, list(mesh.servers), timeout)
    known = mesh.growth.ids | {answer["id"] for answer in answers.values()}
    found: dict[str, dict[Host, None]] = {}
    for node, answer in answers.items():
        for member in answer["members"]:
            if member["id"] and not member["gone"] and member["id"] not in known:
                hosts = hosts_of(member["addresses"], servers[node][0].location.address)
                found.setdefault(member["id"], {}).update(dict.fromkeys(hosts))
    return {id_: list(hosts) for id_, hosts in found.items() if hosts}
