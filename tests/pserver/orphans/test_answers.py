from pserver.orphans.answers import TAKEN, not_taken, read_answer


def test_what_is_said_is_read() -> None:
    assert read_answer(TAKEN) is None
    assert read_answer(not_taken("")) == ""
    assert read_answer(not_taken("it is full")) == "it is full"
    assert read_answer(b"") == "the server is stopping"
