"""The requests of session and supervisors to the spawner. Each is one message: a keyword followed by its data."""

import json
from typing import NamedTuple

from pserver.config.limit_options import SessionLimits

NODE = b"node "  #: request of the session process: mark and limits of a node, with its two sockets
#: Requests of a supervisor. START and END carry a number, with which the answer begins.
START, END, ADOPT, FOLDER = b"start ", b"end ", b"adopt ", b"folder "
MESSAGE_BYTES = 4096
_LONGEST_NUMBER = 19  # digits; a mark has 62 bits
_FAILED = b"failed "
_MOST_WORDS = MESSAGE_BYTES - len(_FAILED)


class NodeFacts(NamedTuple):
    """The facts about a node that the spawner needs."""

    mark: int  #: on all its processes, see `pserver.system.process_marks`
    limits: SessionLimits


def read_number(request: bytes, word: bytes) -> int | None:
    """Return the number behind a keyword; ``None`` if the request is a different one, or makes no sense.

    Examples
    --------
    >>> read_number(b"adopt 17", ADOPT), read_number(b"adopt -1", ADOPT), read_number(b"end 1", ADOPT)
    (17, None, None)
    """
    digits = request.removeprefix(word)
    is_right = request.startswith(word) and digits.isdigit() and len(digits) <= _LONGEST_NUMBER
    return int(digits) if is_right else None


def node_request(mark: int, limits: SessionLimits) -> bytes:
    """Return the request to serve one more node.

    Examples
    --------
    >>> node_request(4, SessionLimits(memory=2**30))
    b'node 4 {"memory": 1073741824}'
    """
    return NODE + f"{mark} {json.dumps(limits.as_json())}".encode()


def read_node(request: bytes) -> NodeFacts | None:
    """Return the arguments of `node_request`; ``None`` if the request is a different one, or makes no sense.

    Examples
    --------
    >>> read_node(node_request(4, SessionLimits())), read_node(b"node 4 [}")
    (NodeFacts(mark=4, limits=SessionLimits(memory=0, ...)), None)
    """
    head, _, text = request.removeprefix(NODE).partition(b" ")
    mark = read_number(NODE + head, NODE) if request.startswith(NODE) else None
    try:
        return None if mark is None else NodeFacts(mark, SessionLimits.from_json(dict(json.loads(text))))
    except (ValueError, TypeError, RecursionError):
        return None


def death(pid: int, code: int) -> bytes:
    """Return the report that a worker has ended."""
    return f"{pid} {code}".encode()


def failure(text: str) -> bytes:
    """Return the report that the spawner is ending because of an error.

    Examples
    --------
    >>> read_failure(failure("why")), read_failure(death(17, 0))
    ('why', None)
    """
    return _FAILED + text.encode(errors="replace")[-_MOST_WORDS:]  # the end of a traceback matters most


def read_failure(news: bytes) -> str | None:
    """Return the argument of `failure`; ``None`` if it is a different report."""
    return news.removeprefix(_FAILED).decode(errors="replace") if news.startswith(_FAILED) else None
