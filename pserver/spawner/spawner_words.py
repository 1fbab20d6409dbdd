"""What session and supervisors say to the spawner: each request is one message, of a word and what belongs to it."""

import json
from typing import NamedTuple

from pserver.config.limit_options import SessionLimits

NODE = b"node "  #: request of the session process: the mark of a node and its limits, with its two sockets
#: Requests of a supervisor. The first two have a number, which the answer begins with.
START, END, ADOPT, FOLDER = b"start ", b"end ", b"adopt ", b"folder "
MESSAGE_BYTES = 4096
_LONGEST_NUMBER = 19  # digits; a mark has 62 bits
_FAILED = b"failed "
_MOST_WORDS = MESSAGE_BYTES - len(_FAILED)


class NodeFacts(NamedTuple):
    """What the spawner knows of a node."""

    mark: int  #: on all its processes, see `pserver.system.process_marks`
    limits: SessionLimits


def read_number(request: bytes, word: bytes) -> int | None:
    """Return the number behind a word; ``None`` if the request is another one, or makes no sense.

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
    """Return what `node_request` was given; ``None`` if the request is another one, or makes no sense.

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
    """Return the news that a worker has ended."""
    return f"{pid} {code}".encode()


def failure(text: str) -> bytes:
    """Return the news that the spawner ends by a failure.

    Examples
    --------
    >>> read_failure(failure("why")), read_failure(death(17, 0))
    ('why', None)
    """
    return _FAILED + text.encode(errors="replace")[-_MOST_WORDS:]  # the end says most


def read_failure(news: bytes) -> str | None:
    """Return what `failure` was given; ``None`` if it is other news."""
    return news.removeprefix(_FAILED).decode(errors="replace") if news.startswith(_FAILED) else None
