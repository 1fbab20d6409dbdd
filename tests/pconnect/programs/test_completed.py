import pytest

from pconnect.programs.completed import CompletedProgram, ProgramFailedError, ProgramTimeoutError


def test_a_program_that_has_failed_is_an_error_on_demand() -> None:
    done = CompletedProgram(["cc", "a.c"], 1, b"", b"a.c: no such file", 2, "beta", 0.1)
    with pytest.raises(ProgramFailedError, match="exit status 1"):
        done.check_returncode()
    CompletedProgram(["true"], 0, b"", b"", 1, "alpha", 0.1).check_returncode()


def test_it_shows_where_it_ran_and_how_long() -> None:
    shown = repr(CompletedProgram(["true"], 0, b"", b"", 1, "alpha", 0.1234))
    assert shown.startswith("CompletedProgram(args=['true'], returncode=0, ")
    assert shown.endswith(", node=1, host='alpha', duration=0.123)")
    assert repr(CompletedProgram([], 0, b"", b"", None, None, None)).endswith(", node=None, host=None)")


def test_one_that_was_ended_has_what_it_wrote() -> None:
    error = ProgramTimeoutError("too long")
    assert (error.stdout, error.stderr) == (None, None)
    assert isinstance(error, TimeoutError)
