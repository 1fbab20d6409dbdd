"""The daemon's answers to a session in which a returning client has logged in; see `returning_client`."""

TAKEN = b"taken"
_NOT_HERE = b"not here"


def not_taken(why: str) -> bytes:
    """Return the answer that says why the client cannot come back; an empty `why` means that there is no session."""
    return why.encode() or _NOT_HERE


def read_answer(answer: bytes) -> str | None:
    """Return why a client cannot come back, as given to `not_taken`; ``None`` if its session has accepted it."""
    if answer == TAKEN:
        return None
    if answer == _NOT_HERE:
        return ""
    return answer.decode(errors="replace") or "the server is stopping"
