"""The members of a server, for people: what ``pserver ctl members`` and ``pserver status`` show of them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pconnect.commands.table import Table
from srp_tools.printable import printable_name

_HEADINGS = ["SERVER", "ADDRESSES", "SLOTS", "STATE", "HEARD", "HOW", "WHY NOT"]
_MOST_NAMED = 10  # in the status


def member_table(members: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of what a server says of its members."""
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
        printable_name(member["why"]),
    ]


def state_of(member: Mapping[str, Any]) -> str:
    """Return whether a member is there, in a word."""
    if member["gone"]:
        return "gone"
    return "here" if member["id"] and not member["why"] else "not reached"


def member_lines(name: str, members: object) -> list[str]:
    """Return what the status says of the members of a server, whose name is `name`."""
    if not isinstance(members, list) or not members:
        return []
    shown = [f"{printable_name(each['name'])} ({each['addresses'][0]}, {state_of(each)})" for each in members]
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    return [f"The members of {name}: {', '.join(shown[:_MOST_NAMED])}{more}"]
