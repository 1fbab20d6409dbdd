"""The members of a server, formatted for ``pserver ctl members`` and ``pserver status``."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from pconnect.commands.table import Table
from pconnect.pool.closure import state_of
from srp_tools.printable import printable_name

_HEADINGS = ["SERVER", "ADDRESSES", "SLOTS", "STATE", "HEARD", "HOW", "FROM", "WHY NOT"]
_MOST_NAMED = 10  # number of members that the status names
_ANSWER_SECONDS = 25.0  # an announcement may take 20 s
_LOOK_SECONDS = 0.1

Facts = Mapping[str, Any]


def member_table(members: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of the members that a server reports."""
    return Table(_HEADINGS, [_row(member) for member in members])


def _row(member: Mapping[str, Any]) -> Sequence[object]:
    heard = member["heard"]
    return [
        printable_name(member["name"]),
        ", ".join(map(printable_name, member["addresses"])),
        member["slots"] if member["id"] else None,
        state_of(member),
        "never" if heard is None else f"{timedelta(seconds=int(heard))} ago",
        member["how"],
        member.get("from"),
        printable_name(member["why"]),
    ]


def await_answer(ask: Callable[[], Facts], host: str, seconds: float = _ANSWER_SECONDS) -> dict[str, object]:
    """Wait until a server has announced itself to a host that it joined; return the outcome for `joined_words`.

    `ask`: returns the server's report of its members.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = [
            each for each in ask()["members"] if each["how"] == "joined" and each["addresses"][0] == host
        ]
        if not found:
            return {"why": "it was left again in the meantime"}
        if found[0]["why"]:
            return {"why": found[0]["why"]}
        if found[0]["id"]:
            return {"server": found[0]["name"]}
        time.sleep(_LOOK_SECONDS)
    return {"why": "there is no answer yet"}


def joined_words(facts: Facts) -> str:
    """Describe the outcome of joining a host."""
    host = facts["host"]
    if "server" in facts:
        return f"The server has joined {host}, the server {printable_name(facts['server'])}."
    if "why" in facts:
        why = printable_name(str(facts["why"]))
        return f"The server has not joined {host} yet: {why}. It keeps trying; see pserver ctl members."
    return f"The server announces itself to {host}; see pserver ctl members."


def member_lines(name: str, members: object) -> list[str]:
    """Return the lines about members for the status of the server `name`."""
    if not isinstance(members, list) or not members:
        return []
    shown = [f"{printable_name(each['name'])} ({each['addresses'][0]}, {state_of(each)})" for each in members]
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    return [f"The members of {name}: {', '.join(shown[:_MOST_NAMED])}{more}"]
