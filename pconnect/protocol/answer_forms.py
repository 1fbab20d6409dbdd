"""Check the form of messages from servers to clients, see doc/protocol.md, before the client uses them. Sans-I/O.

A server can see a client's data, but malformed messages from a server must not be able to end the client's program.
Kinds that are missing in the table are checked by their receiver, or are harmless with any value.
"""

from collections.abc import Mapping
from typing import Any

from pconnect.errors import ProtocolError
from pconnect.protocol.form_checks import (
    Check,
    dict_of,
    has,
    is_int,
    is_number,
    is_text,
    list_of,
    require_form,
)
from pconnect.protocol.kinds import Kind


def check_answer(kind: Kind, value: object) -> None:
    """Raise `ProtocolError` if the value of a message to a client does not have the form of its kind."""
    require_form(kind, value, _FORMS.get(kind))


def check_failure(value: Mapping[Any, Any]) -> None:
    """Raise `ProtocolError` if a value does not describe the failure of a command."""
    needed = all(name in value and check(value[name]) for name, check in _FAILURE.items())
    if not (needed and dict_of(value.get("fields", {}), is_text, lambda _: True)):
        raise ProtocolError("malformed failure of a command")


_FAILURE: Mapping[str, Check] = {
    "type": is_text,
    "bases": lambda names: list_of(names, is_text),
    "message": is_text,
    "traceback": is_text,
    "values_sent": is_int,
    "seconds": is_number,
}


def _is_text_or_none(value: Any) -> bool:
    return value is None or is_text(value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _may_have(value: Any, checks: Mapping[str, Check]) -> bool:
    """Whether it is a dict whose entries with these names are valid. Entries may be missing, and others may exist."""
    return isinstance(value, dict) and all(
        is_text(name) and (name not in checks or checks[name](entry)) for name, entry in value.items()
    )


# --- a node's report about itself ---


def _is_decimal(value: Any) -> bool:
    return is_text(value) and value.isascii() and value.isdecimal() and len(value) < 11


# Other entries are checked where they are shown: an entry of another type is ignored.
_ENGINE_FACTS: Mapping[str, Check] = {
    "errors": lambda errors: dict_of(errors, is_text, is_text),
    "routes": lambda routes: dict_of(routes, _is_decimal, is_text),
    "pid": is_int,
    "orphan_seconds": is_number,
    "running": is_int,
    "begun": is_int,
}


def _is_done(value: Any) -> bool:
    """Whether these are the totals of workers: counts and seconds by name."""
    return bool(dict_of(value, is_text, is_number))


def _is_worker(value: Any) -> bool:
    match value:
        case [number, pid, done, running]:
            return (
                is_int(number) and is_int(pid) and _is_done(done) and (running is None or is_number(running))
            )
    return False


_JOB_FACTS: Mapping[str, Check] = {
    "slots": lambda slots: slots is None or is_int(slots),
    "workers": lambda workers: list_of(workers, _is_worker),
    "ended": _is_done,
}
_LIVE_FACTS: Mapping[str, Check] = {
    "load": lambda load: load is None or is_number(load),
    "memory_bytes": lambda size: size is None or is_int(size),
    "jobs": lambda jobs: jobs is None or has(jobs, _JOB_FACTS),
    "daemon": _is_bool,
}


def _is_unreached(value: Any) -> bool:
    match value:
        case [str(), through]:
            return is_int(through, 0)
    return False


# --- on the job channel ---


def _is_started(value: Any) -> bool:
    return is_text(value) or has(value, {"pid": is_int, "command": is_int}) or has(value, {"never": is_text})


def _is_running(value: Any) -> bool:
    match value:
        case [job, seconds]:
            return is_int(job) and is_number(seconds)
    return False


def _is_part(value: Any) -> bool:
    match value:
        case [job, 1 | 2, start, bytes()]:
            return is_int(job) and is_int(start)
    return False


def _is_recalled(value: Any) -> bool:
    match value:
        case [job, bool()]:
            return is_int(job)
    return False


def _is_printed(value: Any) -> bool:
    match value:
        case [bytes(), before]:
            return is_int(before)
    return False


def _is_recovery(value: Any) -> bool:
    return is_text(value) or list_of(value, _is_kept_job)


def _is_kept_job(value: Any) -> bool:
    match value:
        case [number, str(), limit, grace]:
            return is_int(number) and (limit is None or is_number(limit)) and is_number(grace)
    return False


def _is_stream(value: Any) -> bool:
    match value:
        case [1 | 2, bytes()]:
            return True
    return False


def _is_credit(value: Any) -> bool:
    match value:
        case [0, count]:
            return is_int(count)
    return False


def _is_return(value: Any) -> bool:
    """Whether the value is the position at which the output continues, or the reason why the client cannot return."""
    return is_text(value) or (list_of(value, is_int) and len(value) == 3)


def _is_known(value: Any) -> bool:
    match value:
        case [str(), bool()]:
            return True
    return is_int(value)


_MOST_MEMBERS = 1100  # of one server: those that announce themselves to it, and those that it has joined
_MEMBER: Mapping[str, Check] = {
    "id": is_text,
    "name": is_text,
    "addresses": lambda hosts: list_of(hosts, is_text) and len(hosts) <= 16,
    "slots": is_int,
    "how": is_text,
    "heard": lambda seconds: seconds is None or is_number(seconds),
    "gone": _is_bool,
    "why": is_text,
}


def _is_member_list(value: Any) -> bool:
    return has(
        value,
        {
            "id": is_text,
            "members": lambda members: (
                list_of(members, lambda each: has(each, _MEMBER)) and len(members) <= _MOST_MEMBERS
            ),
        },
    )


_WORKER_END: Mapping[str, Check] = {
    "how": is_text,
    "job": is_int,
    "seconds": is_number,
    "results": lambda results: isinstance(results, bytes),
    "outputs": lambda outputs: list_of(outputs, _is_printed) and len(outputs) == 2,
}
_FORMS: Mapping[Kind, Check] = {
    Kind.MESHED: lambda facts: _may_have(facts, _ENGINE_FACTS),
    Kind.DIED: lambda death: has(death, {"how": is_text, "last_output": is_text}, {"command": is_int}),
    Kind.FACTS: lambda facts: _may_have(facts, _LIVE_FACTS),
    Kind.CLOSED: _is_bool,
    Kind.STOPPING: is_text,
    Kind.RESTART: _is_text_or_none,
    Kind.UNREACHED: _is_unreached,
    Kind.RELAY: _is_text_or_none,
    Kind.RENEW: lambda value: value is None,
    Kind.MEMBERS: lambda value: value is None,
    # The entries are checked where they are shown.
    Kind.STATISTICS: lambda facts: dict_of(facts, is_text, lambda _: True),
    Kind.POOL: lambda pool: has(pool, {"slots": is_int, "ready": _is_bool, "died": is_text}),
    Kind.WORKER: _is_started,
    Kind.RUNNING: _is_running,
    Kind.PRINTED: _is_part,
    Kind.ENDED: lambda end: has(end, _WORKER_END),
    Kind.STREAM: _is_stream,
    Kind.CREDIT: _is_credit,
    Kind.KEEP: _is_text_or_none,
    Kind.LIMIT: _is_text_or_none,
    Kind.DETACH: _is_text_or_none,
    Kind.LEAVE: _is_text_or_none,
    Kind.RECOVER: _is_recovery,
    Kind.TAKE: _is_bool,
    Kind.RECALL: _is_recalled,
    Kind.BACK: _is_return,
    Kind.KNOWN: _is_known,
    Kind.NEIGHBOURS: _is_member_list,
}
