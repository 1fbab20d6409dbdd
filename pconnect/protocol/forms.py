"""Check the form of messages from clients to servers, see doc/protocol.md, before the server uses them. Sans-I/O.

Kinds with harmless values are missing in the table: the value is not used, or it is used where an error of any type
becomes an answer to the client.
"""

from collections.abc import Mapping
from typing import Any

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
from pconnect.values.decoder import unpack

#: A longer time limit of a command means no limit.
MAX_SECONDS = 1e9
# TCP takes a sixth of it as 15 bits, see `pconnect.link.dialing.prepare`.
_MAX_PEER_TIMEOUT = 196_000.0
_DIGEST_BYTES = 32
_MAX_SECRET_BYTES = 64
_NETWORK_ID_BYTES = 16
_MAX_NICE = 19


def check_form(kind: Kind, value: object) -> None:
    """Raise `ProtocolError` if the value of a message to a server does not have the form of its kind."""
    require_form(kind, value, _FORMS.get(kind) or _ANSWERED_FORMS.get(kind))


def ends_connection(kind: Kind) -> bool:
    """Whether a malformed message of this kind ends the connection. Other kinds are answered by an error."""
    return kind not in _ANSWERED_FORMS


# --- commands and jobs: many arrive per second, so the common cases are checked first ---


def _is_command(value: Any) -> bool:
    match value:
        case [str(), int() as epoch, dict() as options]:
            seconds = options.get("seconds")
            return epoch >= 0 and (seconds is None or is_number(seconds, most=MAX_SECONDS))
    return False


def _is_job(value: Any) -> bool:
    match value:
        case [int(), list(), dict(), None]:
            return True
        case [int(), args, kwargs, dict() as options]:
            is_right = isinstance(args, bytes) if options.get("pickled") else isinstance(kwargs, dict)
            memory, stream, program = map(options.get, ("memory", "stream", "program"))
            return (
                is_right
                and is_number(options.get("seconds", 0.0))
                and (memory is None or type(memory) is int)
                and (stream is None or (list_of(stream, _is_index) and len(stream) > 1))
                and (program is None or _is_program(program))
            )
    return False


def _is_program(value: Any) -> bool:
    return has(
        value,
        {
            "args": lambda words: list_of(words, _is_bytes) and bool(words),
            "cwd": _is_bytes,
            "env": lambda variables: dict_of(variables, _is_bytes, _is_bytes),
        },
        {
            "stdin": lambda wanted: isinstance(wanted, bool),
            "merged": lambda wanted: isinstance(wanted, bool),
            "terminal": lambda size: list_of(size, _is_size) and len(size) == 2,
            "seconds": is_number,
            "folder": lambda wanted: isinstance(wanted, bool),
            "files": lambda files: dict_of(files, is_text, _is_file) and value.get("folder") is True,
            "outputs": lambda names: list_of(names, is_text) and value.get("folder") is True,
            "nice": lambda steps: is_int(steps, 0, _MAX_NICE),
            "login": lambda account: _is_bytes(account) and len(value["args"]) == 1,
        },
    )


def _is_file(value: Any) -> bool:
    match value:
        case [mode, bytes()]:
            return is_int(mode, 0, 0o777)
    return False


def _is_bytes(value: Any) -> bool:
    return isinstance(value, bytes)


def _is_size(value: Any) -> bool:
    return is_int(value, 0, 2**16 - 1)


def _is_stream(value: Any) -> bool:
    """Whether it is a piece of standard input."""
    match value:
        case [0, bytes()]:
            return True
    return False


def _is_credit(value: Any) -> bool:
    match value:
        case [1 | 2, count]:
            return is_int(count)
    return False


def _is_signal(value: Any) -> bool:
    match value:
        case [number, *size]:
            return is_int(number, 1, 64) and (not size or (len(size) == 2 and all(map(_is_size, size))))
    return False


def _is_index(value: Any) -> bool:
    return type(value) is int and value >= 0


# --- setting up ---


def _is_node(value: Any) -> bool:
    match value:
        case [str(), addresses]:
            return list_of(addresses, _is_address)
    return False


def _is_address(value: Any) -> bool:
    match value:
        case [str(name), port]:
            is_socket = name.startswith("/")  # a server without TCP ports
            return port == 0 if is_socket else is_int(port, 1, 2**16 - 1)
    return False


def _is_link(value: Any) -> bool:
    match value:
        case [str(), bytes()]:
            return True
    return False


def _is_set_up(value: Any) -> bool:
    return has(
        value,
        {
            "network": lambda network: isinstance(network, bytes) and len(network) == _NETWORK_ID_BYTES,
            "nodes": lambda nodes: isinstance(nodes, bytes) and list_of(unpack(nodes), _is_node),
            "directory": is_text,
            "limits": lambda limits: list_of(limits, lambda limit: is_int(limit, 1)) and len(limits) == 2,
            "peer_timeout": lambda seconds: is_number(seconds, most=_MAX_PEER_TIMEOUT),
            "timeout": is_number,
            "links": lambda links: dict_of(links, is_int, _is_link),
        },
        {
            "client_version": lambda version: version is None or is_text(version),
            "together": lambda nodes: list_of(nodes, is_int),
            "gone": lambda nodes: dict_of(nodes, is_int, is_text),
            "busy": lambda nodes: list_of(nodes, is_int),
            "beyond": lambda nodes: list_of(nodes, is_int),
            "resumable": lambda resumable: isinstance(resumable, bool),
        },
    )


def _is_restart(value: Any) -> bool:
    match value:
        case [nodes, seconds]:
            return list_of(nodes, is_int) and is_number(seconds)
    return False


def _are_members(value: Any) -> bool:
    return has(
        value,
        {
            "nodes": lambda nodes: dict_of(nodes, is_int, _is_node),
            "links": lambda links: dict_of(links, is_int, _is_link),
            "removed": lambda nodes: list_of(nodes, is_int),
            "change": is_text,
            "timeout": is_number,
        },
    )


def _is_route(value: Any) -> bool:
    return value is None or is_text(value) or is_int(value, 1)


def _is_relay(value: Any) -> bool:
    match value:
        case [[low, high], dict() as dialled, seconds]:
            return (
                is_int(low, 1)
                and is_int(high, low + 1)
                and set(dialled) <= {low, high}
                and all(list_of(places, _is_address) for places in dialled.values())
                and is_number(seconds)
            )
    return False


def _is_probe(value: Any) -> bool:
    match value:
        case None:
            return True
        case [int(), str(), list() as waits]:
            return all(map(_is_wait, waits))
    return False


def _is_wait(value: Any) -> bool:
    match value:
        case [node, str(), None | str(), str(), nodes]:
            return is_int(node) and list_of(nodes, is_int)
    return False


# --- on the job channel ---


def _is_stop(value: Any) -> bool:
    match value:
        case [job, seconds]:
            return is_int(job) and is_number(seconds)
    return False


def _is_kept(value: Any) -> bool:
    match value:
        case None:
            return True
        case bytes():
            return len(value) == _DIGEST_BYTES
        case [facts, parts, bytes()]:
            is_right = dict_of(parts, is_text, lambda part: isinstance(part, bytes))
            return is_right and has(facts, _JOB_FACTS)
    return False


def _is_limit(value: Any) -> bool:
    match value:
        case [most, jobs]:
            return is_int(most, 1) and list_of(jobs, is_int)
    return False


_JOB_FACTS: Mapping[str, Check] = {
    "name": is_text,
    "retries": is_int,
    "isolate": lambda isolate: isinstance(isolate, bool),
    "after": is_int,
    "limit": lambda seconds: seconds is None or is_number(seconds),
    "grace": is_number,
    "worker": is_int,
    "parts": lambda names: list_of(names, is_text),
}


def _is_recovery(value: Any) -> bool:
    match value:
        case [bytes() as network, node, bytes() as secret]:
            is_right = len(network) == _NETWORK_ID_BYTES and len(secret) <= _MAX_SECRET_BYTES
            return is_right and is_int(node, 1, 2**32 - 1)
    return False


# Malformed messages of these kinds are answered by an error.
_ANSWERED_FORMS: Mapping[Kind, Check] = {
    Kind.COMMAND: _is_command,
    Kind.CALL: _is_command,
    Kind.JOB: _is_job,
}
# Malformed messages of these kinds end the connection.
_FORMS: Mapping[Kind, Check] = {
    Kind.SETUP: _is_set_up,
    Kind.RESTART: _is_restart,
    Kind.ROUTE: _is_route,
    Kind.RELAY: _is_relay,
    Kind.MEMBERS: _are_members,
    Kind.PROBE: _is_probe,
    Kind.STATISTICS: lambda wanted: has(
        wanted, {}, {"brief": lambda brief: isinstance(brief, bool), "since": is_number}
    ),
    Kind.RENEW: lambda certificate: isinstance(certificate, bytes),
    Kind.STOP: _is_stop,
    Kind.RECALL: lambda job: job is None or is_int(job),
    Kind.STREAM: _is_stream,
    Kind.CREDIT: _is_credit,
    Kind.SIGNAL: _is_signal,
    Kind.KEEP: _is_kept,
    Kind.LIMIT: _is_limit,
    Kind.LEAVE: lambda jobs: list_of(jobs, is_int),
    Kind.RECOVER: _is_recovery,
}
