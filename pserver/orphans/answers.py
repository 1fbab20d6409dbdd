"""What a daemon answers to a session in which a client has logged in that comes back; see `returning_client`."""

TAKEN = b"taken"
_NOT_HERE = b"not here"


def not_taken(why: str) -> bytes:
    """Return the answer that says why the client cannot come back; an empty text says that there is no session."""
    return why.encode() or _NOT_HERE


def read_answer(answer: bytes) -> str | None:
    """Return why a client cannot come back, as by `not_taken`; ``None`` if its session has it."""
    if answer == TAKEN:
        return None
    if answer == _NOT_HERE:
        return ""
    return answer.decode(errors="replace") or "the server is stopping"
