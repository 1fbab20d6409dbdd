"""Features that networks in one process do not have."""

import pytest

from pconnect.loop.in_process import InProcess, missing, no_messages


def test_errors_say_what_and_what_instead() -> None:
    assert str(missing("put()", "copy it")) == (
        "put() is not available with pconnect.serial(), which runs everything in this process: copy it"
    )
    assert "use local_network()" in str(no_messages())


def test_what_a_network_has_to_do() -> None:
    with pytest.raises(NotImplementedError):
        InProcess().reval("1")
    with pytest.raises(NotImplementedError):
        InProcess().rfeval("abs", [1])
