"""An engine tries to control the client's terminal, through every kind of text that it sends."""

import logging
import warnings
from collections.abc import Iterator

import pytest

from pconnect import RemoteError, reval
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server

# Sets the title, writes to the clipboard, erases, moves the cursor, reverses text direction, ends a line.
ATTACK = "\x1b]0;owned\x07\x1b]52;c;cm0=\x1b\\\x1b[2J\x1b[1A\x9b2J\x90\b\b\b\u202e\u2028\x85"
ALLOWED = {*map(chr, range(32, 127)), "\n", "\t", "…"}


@pytest.fixture(scope="module")
def network(server: Server) -> Iterator[ClientNetwork]:
    with server.connect(1) as network:
        yield network


def forbidden(text: str) -> set[str]:
    return set(text) - ALLOWED


def test_prints(network: ClientNetwork, capsys: pytest.CaptureFixture[str]) -> None:
    host = network[1].host
    reval(f"print({ATTACK!r}, chr(0)); print('work\\r[2 beta] all is well')", network[1]).result()
    shown = capsys.readouterr().out
    assert forbidden(shown) == {"\r"}
    assert all(line.startswith(f"[1 {host}] ") for line in shown.replace("\r", "\n").splitlines())


def test_an_exception_its_type_and_its_notes(network: ClientNetwork) -> None:
    with pytest.raises(RemoteError) as caught:
        reval(f"raise type({ATTACK!r}, (ValueError,), {{}})({ATTACK!r})", network[1]).result()
    error = caught.value
    for text in (str(error), error.type_name, error.message, error.remote_traceback, repr(error)):
        assert not forbidden(text)
    assert isinstance(error, ValueError)


def test_what_is_invisible_shows_in_errors_and_warnings_and_stays_in_prints(
    network: ClientNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = "a\u200bb\U000e0001c"
    with pytest.raises(RemoteError) as caught:
        reval(f"raise type({hidden!r}, (ValueError,), {{}})({hidden!r})", network[1]).result()
    error = caught.value
    for text in (str(error), error.type_name, error.message, error.remote_traceback):
        assert r"a\u200bb\U000e0001c" in text and not forbidden(text)
    with pytest.warns(UserWarning, match=r"a\\u200bb\\U000e0001c"):
        reval(f"__import__('warnings').warn({hidden!r})", network[1]).result()
    reval(f"print({hidden!r})", network[1]).result()
    assert hidden in capsys.readouterr().out


def test_a_job(network: ClientNetwork) -> None:
    def fail(text: str) -> None:
        raise ValueError(text)

    error = network.submit(fail, ATTACK).exception(60)
    assert error is not None and not forbidden(str(error))


def test_a_warning(network: ClientNetwork) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        command = f"import warnings; warnings.warn_explicit({ATTACK!r}, UserWarning, {ATTACK!r}, 1)"
        reval(command, network[1]).result()
    assert [forbidden(str(each.message) + each.filename) for each in caught] == [set()]


def test_a_log_record(network: ClientNetwork, caplog: pytest.LogCaptureFixture) -> None:
    reval(f"import logging; logging.getLogger({ATTACK!r}).warning({ATTACK!r})", network[1]).result()
    assert len(caplog.records) == 1
    assert not forbidden(logging.Formatter(logging.BASIC_FORMAT).format(caplog.records[0]))


def test_a_display_and_a_value_that_stays(network: ClientNetwork, capsys: pytest.CaptureFixture[str]) -> None:
    reval(f"class Odd:\n    __repr__ = lambda self: {ATTACK!r}\ndisplay(Odd())", network[1]).result()
    assert not forbidden(capsys.readouterr().out)


def test_names(network: ClientNetwork) -> None:
    reval(f"vars()[{ATTACK!r}] = type({ATTACK!r}, (), {{}})()", network[1]).result()
    table = network.who()
    reval(f"del vars()[{ATTACK!r}]", network[1]).result()
    assert not forbidden(str(table)) and not forbidden(table._repr_html_())


def test_the_last_words_of_an_engine(network: ClientNetwork) -> None:
    command = reval(f"import os; print({ATTACK!r}, flush=True); os._exit(3)", network[1])
    error = command.exception(60)
    network[1:2].restart()
    assert error is not None and r"\x1b]0;owned" in str(error) and not forbidden(str(error))
