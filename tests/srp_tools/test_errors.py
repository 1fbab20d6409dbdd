"""The tree of errors, and the message that names every host that failed."""

import pytest

from srp_tools import errors
from srp_tools.errors import ConnectError, ParallelError


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ConfigurationError", ValueError),
        ("CredentialError", ValueError),
        ("AuthenticationError", PermissionError),
        ("ConnectError", ConnectionError),
        ("ConnectionLostError", ConnectionError),
    ],
)
def test_each_error_can_be_caught_by_its_root_and_its_builtin(name: str, builtin: type[Exception]) -> None:
    error = getattr(errors, name)
    assert issubclass(error, ParallelError) and issubclass(error, builtin)


def test_no_error_is_forgotten_in_the_table_of_the_module() -> None:
    assert errors.__doc__ is not None
    classes = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert [error.__name__ for error in classes if f"{error.__name__}" not in errors.__doc__] == []


def test_one_host_takes_one_line() -> None:
    assert str(ConnectError({"a:1": OSError("refused")})) == "could not connect to a:1: refused"


def test_several_hosts_take_a_line_each() -> None:
    reasons = {"a": OSError("refused"), "[::1]:5": TimeoutError("no answer")}
    error = ConnectError(reasons)
    assert str(error).split("\n") == ["could not connect to 2 hosts:", "  a: refused", "  [::1]:5: no answer"]
    assert error.reasons == reasons
