"""The commands that administer a running server: ``pserver ctl WORD`` and ``pserver reload``."""

import argparse
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pconnect.commands.table import Table
from pserver.admin.member_table import await_answer, joined_words, member_table
from pserver.admin.options import CommandParser
from pserver.admin.settings import server_name
from pserver.admin.status_command import name_option, report_none, session_count, status_table
from pserver.admin.stop_command import stop
from pserver.ctl.asking import ask
from pserver.statistics.in_words import in_lines
from pserver.system.pidfile import find_server
from srp_tools.printable import printable_name

_RELOAD_SECONDS = 30.0  # enough for a file with many users on a slow file system
_HEADINGS = ["SESSION", "USER", "FROM", "SINCE", "NODES", "COMMANDS", "JOBS", "IDLE", "CLIENT"]

# The help text of each word, and its argument with a description if it has one.
_WORDS: Mapping[str, tuple[str, tuple[str, str] | None]] = {
    "sessions": ("show the sessions, and how much they have done", None),
    "statistics": ("show recent jobs by slot, and the load of the machine", None),
    "kill": ("end one session, or all sessions of a user", ("WHAT", "a session number or a user name")),
    "slots": (
        "change the number of slots until the next reload or start",
        ("N", "how many job processes may run at the same time"),
    ),
    "drain": ("accept no new sessions and start no jobs; running work continues", None),
    "resume": ("accept new sessions again", None),
    "release": ("accept no new sessions, and stop the server when the last one ends", None),
    "reload": ("read the users and settings again", None),
    "log-level": (
        "set the detail of the log until the next reload or start",
        ("LEVEL", "debug, info, warning or error"),
    ),
    "members": ("show the servers of the pool that this server knows", None),
    "join": (
        "announce this server to another server, and report the answer",
        ("HOST[:PORT]", "the other server, with its command port"),
    ),
    "leave": (
        "stop announcing this server to another server",
        ("HOST[:PORT]", "the other server, as given to join"),
    ),
    "forget": (
        "remove members that announce themselves from the list",
        ("ID|SOURCE", "the id of a member, or the address that its announcements come from"),
    ),
    "status": ("show the status of the server", None),
    "stop": ("stop the server, like pserver stop", None),
    "exit": ("stop the server when its last session ends, like pserver stop --when-idle", None),
    "quit": ("stop the server now, even with detached jobs, like pserver stop --force", None),
}
_ELSEWHERE = {"exit": "release", "quit": "stop"}  # the server's own words for these requests
_ENDING: Mapping[str, Mapping[str, bool]] = {"stop": {}, "exit": {"when_idle": True}, "quit": {"force": True}}

Facts = Mapping[str, Any]


def add_ctl(commands: "argparse._SubParsersAction[CommandParser]") -> None:
    """Add the commands and their options."""
    common = CommandParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--name", help="name of the server; default: the configured name, or default")
    host_help = "administer the server at this command port; log in as one of the users in its --admins"
    common.add_argument("--host", metavar="HOST[:PORT]", help=host_help)
    common.add_argument("--user", help="user name for --host; default: the same as for pconnect")
    common.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser = commands.add_parser("ctl", help="administer a running server", parents=[common])
    words = parser.add_subparsers(dest="word", required=True, metavar="|".join(_WORDS))
    for word, (what, argument) in _WORDS.items():
        each = words.add_parser(word, help=what, parents=[common])
        if argument is not None:
            each.add_argument("argument", metavar=argument[0], help=argument[1])
    commands.add_parser("reload", help="read the users and settings again", parents=[common])


def ctl(options: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    word = getattr(options, "word", "reload")
    if host := getattr(options, "host", None):
        return _show(options, word, _ask_elsewhere(options, host, word))
    name = server_name(getattr(options, "name", None))
    if word in _ENDING:
        wanted = {"force": False, "when_idle": False, **_ENDING[word]}
        as_json = getattr(options, "json", False)
        return stop(argparse.Namespace(name=name, timeout=10.0, json=as_json, **wanted))
    server = find_server(name)
    if server is None:
        return report_none(name)
    facts = ask(server, request_for(word, getattr(options, "argument", "")), _RELOAD_SECONDS)
    if word == "join":
        facts |= await_answer(lambda: ask(server, {"do": "members"}), str(facts["host"]))
    return max(_show(options, word, facts), int("why" in facts))


def _ask_elsewhere(options: argparse.Namespace, host: str, word: str) -> Facts:
    # A late import: the client is slow to load, and other commands do not need it.
    from pserver.admin.remote_control import ask_at  # noqa: PLC0415

    request = request_for(_ELSEWHERE.get(word, word), getattr(options, "argument", ""))
    if word == "quit":
        request["force"] = True
    return ask_at(host, getattr(options, "user", None), request, _RELOAD_SECONDS)


def _show(options: argparse.Namespace, word: str, facts: Facts) -> int:
    if getattr(options, "json", False):
        print(
            json.dumps(facts, indent=None if word == "statistics" else 2)
        )  # statistics: thousands of numbers
    else:
        for line in _LINES[word](facts):
            print(line)
        if word == "drain":
            print(f"To accept sessions again: pserver ctl{_chosen(options)} resume")
    return 0


def _chosen(options: argparse.Namespace) -> str:
    """Return the options that chose the server, for another command line."""
    if host := getattr(options, "host", None):
        user = getattr(options, "user", None)
        return f" --host {shlex.quote(host)}" + (f" --user {shlex.quote(user)}" if user else "")
    name = getattr(options, "name", None)
    return name_option(name) if name else ""


def request_for(word: str, argument: str) -> dict[str, object]:
    """Return the request for the server."""
    match word:
        case "kill" | "forget":
            return {"do": word, "what": argument}
        case "slots":
            # The server itself refuses anything that is not a number, with its own message.
            is_number = argument.isascii() and argument.isdigit() and len(argument) < 10
            return {"do": word, "total": int(argument) if is_number else argument}
        case "log-level":
            return {"do": word, "level": argument}
        case "join" | "leave":
            return {"do": word, "host": argument}
    return {"do": word}


def _sessions(facts: Facts) -> list[str]:
    return [str(Table(_HEADINGS, [_row(session) for session in facts["sessions"]]))]


def _row(session: Facts) -> Sequence[object]:
    return [
        session["session"],
        session["user"] or "(logging in)",
        session["from"],
        f"{datetime.fromtimestamp(session['since']):%Y-%m-%d %H:%M}",
        ",".join(map(str, session["nodes"])),
        session["commands"],
        session["jobs"],
        str(timedelta(seconds=int(session["idle"]))),
        "detached" if session["detached"] else "orphaned" if session["orphaned"] else "connected",
    ]


def _killed(facts: Facts) -> list[str]:
    return [f"Ended session {each['session']} of user {each['user']}." for each in facts["killed"]]


def _forgotten(facts: Facts) -> list[str]:
    return [
        f"Forgot the member {printable_name(each['name'])} at {printable_name(each['addresses'][0])}."
        for each in facts["forgotten"]
    ]


def _drained(facts: Facts) -> list[str]:
    return [
        f"The server accepts no new sessions and starts no jobs. Running work in "
        f"{session_count(facts['sessions'])} continues."
    ]


def _released(facts: Facts) -> list[str]:
    if not facts["sessions"]:
        return ["The server has no sessions and is stopping now."]
    return [
        f"The server stops when the last of {session_count(facts['sessions'])} ends. It accepts no new ones."
    ]


def _stopped(facts: Facts) -> list[str]:
    return [f"The server is stopping, with {session_count(len(facts['ended']))}."]


def _reloaded(facts: Facts) -> list[str]:
    return [
        *(_changes(facts["changed"]) or ["No setting changed that a running server can apply."]),
        *(f"{each} (needs a restart)" for each in _changes(facts["restart"])),
        *(
            f"Ended session {each['session']} of user {each['user']}: {each['why']}."
            for each in facts["ended"]
        ),
    ]


def _changes(settings: Facts) -> list[str]:
    return [f"{name}: {_shown(old)} -> {_shown(new)}" for name, (old, new) in settings.items()]


def _shown(value: object) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)


def _slots(facts: Facts) -> list[str]:
    total, before = facts["total"], facts["before"]
    instead = ", as before" if total == before else f" instead of {before}"
    return [f"{total} slot{'s' * (total != 1)}{instead}; {facts['used']} in use."]


_LINES: Mapping[str, Callable[[Facts], list[str]]] = {
    "sessions": _sessions,
    "statistics": in_lines,
    "kill": _killed,
    "slots": _slots,
    "drain": _drained,
    "resume": lambda _: ["The server accepts new sessions."],
    "release": _released,
    "exit": _released,
    "stop": _stopped,
    "quit": _stopped,
    "reload": _reloaded,
    "log-level": lambda facts: [f"The log contains lines of level {facts['level']} and above."],
    "members": lambda facts: [str(member_table(facts["members"]))],
    "join": lambda facts: [joined_words(facts)],
    "leave": lambda facts: [f"The server has left {facts['host']}."],
    "forget": _forgotten,
    "status": lambda facts: [str(status_table([(str(facts["name"]), int(facts["pid"]), facts)]))],
}
