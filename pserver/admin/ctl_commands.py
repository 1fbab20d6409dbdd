"""The commands that administer a server that runs: ``pserver ctl WORD`` and ``pserver reload``."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pconnect.commands.table import Table
from pserver.admin.member_table import await_answer, joined_words, member_table
from pserver.admin.options import CommandParser
from pserver.admin.settings import server_name
from pserver.admin.status_command import report_none, session_count, status_table
from pserver.admin.stop_command import stop
from pserver.ctl.asking import ask
from pserver.statistics.in_words import in_lines
from pserver.system.pidfile import find_server
from srp_tools.printable import printable_name

_RELOAD_SECONDS = 30.0  # a file of many users, on a slow file system
_HEADINGS = ["SESSION", "USER", "FROM", "SINCE", "NODES", "COMMANDS", "JOBS", "IDLE", "CLIENT"]

# What each word does, and its argument with its description, if it has one.
_WORDS: Mapping[str, tuple[str, tuple[str, str] | None]] = {
    "sessions": ("show the sessions, and what they have done", None),
    "statistics": ("show what has run, in which slots, and how the machine is", None),
    "kill": ("end a session, or all of a user", ("WHAT", "the number of a session, or the name of a user")),
    "slots": (
        "have another number of slots, until the next reload or start",
        ("N", "how many processes for jobs may run at once"),
    ),
    "drain": ("let no new session in, and begin no jobs; what runs goes on", None),
    "resume": ("let new sessions in again", None),
    "release": ("let no new session in, and end the server with its last one", None),
    "reload": ("read users and settings again", None),
    "log-level": (
        "write more or less to the log, until the next reload or start",
        ("LEVEL", "debug, info, warning or error"),
    ),
    "members": ("show the servers that it knows, of its pool", None),
    "join": (
        "announce it to another server, and say whether that has worked",
        ("HOST[:PORT]", "that server, with its command port"),
    ),
    "leave": ("announce it there no more", ("HOST[:PORT]", "that server, as it was named")),
    "forget": (
        "take members that announce themselves out of its list",
        ("ID|SOURCE", "the id of a member, or the address from which it announces itself"),
    ),
    "status": ("show the server", None),
    "stop": ("end the server, as pserver stop", None),
    "exit": ("end it with its last session, as pserver stop --when-idle", None),
    "quit": ("end it now, with detached jobs, as pserver stop --force", None),
}
_ELSEWHERE = {"exit": "release", "quit": "stop"}  # what the server calls them
_ENDING: Mapping[str, Mapping[str, bool]] = {"stop": {}, "exit": {"when_idle": True}, "quit": {"force": True}}

Facts = Mapping[str, Any]


def add_ctl(commands: "argparse._SubParsersAction[CommandParser]") -> None:
    """Add the commands and their options."""
    common = CommandParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--name", help="the server's name, default: that of the configuration, or default")
    host_help = "administer the server at this command port, by a login as a user of its --admins"
    common.add_argument("--host", metavar="HOST[:PORT]", help=host_help)
    common.add_argument("--user", help="the user for --host; default: as for pconnect")
    common.add_argument("--json", action="store_true", help="print one object, for programs")
    parser = commands.add_parser("ctl", help="administer a server that runs", parents=[common])
    words = parser.add_subparsers(dest="word", required=True, metavar="|".join(_WORDS))
    for word, (what, argument) in _WORDS.items():
        each = words.add_parser(word, help=what, parents=[common])
        if argument is not None:
            each.add_argument("argument", metavar=argument[0], help=argument[1])
    commands.add_parser("reload", help="read users and settings again", parents=[common])


def ctl(options: argparse.Namespace) -> int:
    """Do what a command line says; return the exit status."""
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
    # Late: it brings the client with it, which other commands need not wait for.
    from pserver.admin.remote_control import ask_at  # noqa: PLC0415

    request = request_for(_ELSEWHERE.get(word, word), getattr(options, "argument", ""))
    if word == "quit":
        request["force"] = True
    return ask_at(host, getattr(options, "user", None), request, _RELOAD_SECONDS)


def _show(options: argparse.Namespace, word: str, facts: Facts) -> int:
    if getattr(options, "json", False):
        print(json.dumps(facts, indent=None if word == "statistics" else 2))  # thousands of numbers
    else:
        for line in _LINES[word](facts):
            print(line)
    return 0


def request_for(word: str, argument: str) -> dict[str, object]:
    """Return what the server is asked for."""
    match word:
        case "kill" | "forget":
            return {"do": word, "what": argument}
        case "slots":
            # What is no number is refused by the server, in its words.
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
        f"No new session is let in, and no job begins; what runs in {session_count(facts['sessions'])} goes on. "
        "To take sessions again: pserver ctl resume"
    ]


def _released(facts: Facts) -> list[str]:
    if not facts["sessions"]:
        return ["The server ends now: it has no sessions."]
    return [f"The server ends with the last of {session_count(facts['sessions'])}; no new one is let in."]


def _stopped(facts: Facts) -> list[str]:
    return [f"The server ends, with {session_count(len(facts['ended']))}."]


def _reloaded(facts: Facts) -> list[str]:
    return [
        *(_changes(facts["changed"]) or ["No setting has changed that a running server takes in."]),
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


_LINES: Mapping[str, Callable[[Facts], list[str]]] = {
    "sessions": _sessions,
    "statistics": in_lines,
    "kill": _killed,
    "slots": lambda facts: [
        f"{facts['total']} slots instead of {facts['before']}; {facts['used']} are in use."
    ],
    "drain": _drained,
    "resume": lambda _: ["New sessions are let in."],
    "release": _released,
    "exit": _released,
    "stop": _stopped,
    "quit": _stopped,
    "reload": _reloaded,
    "log-level": lambda facts: [f"The log has lines of the level {facts['level']} and above."],
    "members": lambda facts: [str(member_table(facts["members"]))],
    "join": lambda facts: [joined_words(facts)],
    "leave": lambda facts: [f"The server is no member at {facts['host']} any more."],
    "forget": _forgotten,
    "status": lambda facts: [str(status_table([(str(facts["name"]), int(facts["pid"]), facts)]))],
}
