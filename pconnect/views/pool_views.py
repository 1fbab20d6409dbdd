"""`Network.members`: the pool that a network's servers belong to."""

from typing import Any

from pconnect.commands.table import Table
from pconnect.pool.closure import STATES, hosts_of, state_of
from pconnect.pool.further import survey
from pconnect.session.remote_calls import client_mesh
from pconnect.session.server import Server

_HEADINGS = ["server", "addresses", "slots", "nodes", "state", "heard", "known at"]


class PoolView:
    """The method for the pool of a network's servers."""

    mesh: Any
    nodes: list[int]

    def members(self, *, timeout: float = 5.0) -> Table:
        """Return the servers of the pool that the servers of these nodes currently know, connected or not.

        Parameters
        ----------
        timeout
            Seconds to wait for the servers' answers, which do not depend on the engines' work. Servers that do not
            answer are left out.

        Returns
        -------
        Table
            A row for each server: its name; ``addresses``, where other machines reach it; ``slots``; the ``nodes`` of
            this network on it; ``state``: ``here``, ``not reached`` (a server tried to announce itself to it, and got
            no answer at the last attempt) or ``gone`` (no server has heard from it for four intervals), the best state
            that any server reports, as ``pserver ctl members`` does for one server; ``heard``, the seconds since a
            server last heard from it; and ``known at``, the nodes whose servers named it.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(1) as net:
        ...     len(net.members())
        0
        """
        there, answers = survey(client_mesh(self.mesh), self.nodes, timeout)
        nodes = {answer["id"]: [server.node for server in there[node]] for node, answer in answers.items()}
        known: dict[str, dict[str, Any]] = {}
        for node, answer in answers.items():
            for member in answer["members"]:
                _note(known, member, there[node][0])
        return Table(_HEADINGS, [_row(member, nodes.get(id_, [])) for id_, member in known.items()])


def _note(known: dict[str, dict[str, Any]], member: dict[str, Any], source: Server) -> None:
    """Merge one server's entry about a member of the pool into those of the others."""
    hosts = [host.label for host in hosts_of(member["addresses"], source.location.address)]
    entry = known.setdefault(
        member["id"] or member["name"], {**member, "addresses": [], "states": [], "heard": None, "at": []}
    )
    entry["addresses"] = list(dict.fromkeys([*entry["addresses"], *hosts]))
    entry["states"].append(state_of(member))
    entry["at"].append(source.node)
    if member["heard"] is not None:
        before = entry["heard"]
        entry["heard"] = member["heard"] if before is None else min(member["heard"], before)


def _row(member: dict[str, Any], nodes: list[int]) -> list[object]:
    state = min(member["states"], key=STATES.index)
    heard = None if member["heard"] is None else round(member["heard"], 1)
    return [
        member["name"],
        ", ".join(member["addresses"]),
        member["slots"],
        ", ".join(map(str, nodes)),
        state,
        heard,
        ", ".join(map(str, dict.fromkeys(member["at"]))),
    ]
