"""What session and supervisors say to the spawner: each request is one message, of a word and what belongs to it."""

NODE = b"node "  #: request of the session process: the mark of a node, with its two sockets
#: Requests of a supervisor. The first two have a number, which the answer begins with.
START, END, ADOPT, FOLDER = b"start ", b"end ", b"adopt ", b"folder "
MESSAGE_BYTES = 4096
_LONGEST_NUMBER = 19  # digits; a mark has 62 bits


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
