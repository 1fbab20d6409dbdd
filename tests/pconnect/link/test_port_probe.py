"""The service that an answer reveals. `tests.integration.test_bad_input` tests the question."""

import socket
import threading

import pytest

from pconnect.errors import ConnectionLostError, ProtocolError
from pconnect.link.host_names import Host
from pconnect.link.port_probe import describe, raise_cause
from pconnect.protocol.frames import VERSION, Preamble, Purpose
from srp_tools.steps import deadline_after, run
from tests.support.waiting import DEADLINE

HOST = Host("alpha:4000", "alpha", 4000)
BROKEN = ConnectionLostError("it broke")


def packed(purpose: Purpose, endpoint: int = 0) -> bytes:
    return Preamble(purpose, endpoint=endpoint).pack()


@pytest.mark.parametrize(
    ("heard", "use_tls", "words"),
    [
        (packed(Purpose.WRONG_PORT, 12502), True, "this is the data port of .*: give its command port, alpha:12502$"),
        (packed(Purpose.WRONG_PORT, 12502), False, "this is the data port of .*: give its command port, alpha:12502$"),
        (packed(Purpose.ACCEPTED), True, "no encryption and no login: start it again without --no-tls$"),
        (packed(Purpose.ACCEPTED) + b"offer", False, "command port of a pserver, which ended the login: see its log"),
        (packed(Purpose.NEEDS_TLS), True, "command port of a pserver, which ended the login: see its log"),
        (packed(Purpose.NEEDS_TLS), False, "this server uses TLS: connect without use_tls=False"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", True, r"^an SSH server answers on port 4000 \('SSH-2.0-OpenSSH_9.6'\): give the"),
        (b"<!DOCTYPE HTML>\n<html>", True, r"^a web server answers on port 4000 \('<!DOCTYPE HTML>'\): give the"),
        (b"\x15\x03\x03\0\x02\x02\x28", True, "^a TLS server that is not a pserver, perhaps a web .*4000: give"),
        (b"220 mail\x1b[31m ESMTP\r\n", True, r"^another service answers on port 4000 \('220 mail\\\\x1b\[31m ESMTP'"),
        (b"x" * 400, True, r"^another service answers on port 4000 \('x{60}'\)"),
        (b"\xff\xfe\0", True, "^another service answers on port 4000: give"),
        (b"", True, "does not answer clients of pserver: give the command port .*--allow-from"),
        (b"\r\n", True, "does not answer clients of pserver"),
    ],
)  # fmt: skip
def test_an_answer_has_its_meaning_and_a_remedy(heard: bytes, use_tls: bool, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(describe(heard, HOST, use_tls=use_tls))


def test_the_port_of_an_ipv6_address() -> None:
    told = describe(packed(Purpose.WRONG_PORT, 7), Host("x", "fe80::1", 1), use_tls=True)
    assert told.endswith("give its command port, [fe80::1]:7")


def cause(answer: bytes, port: int = 1) -> Exception:
    with pytest.raises((ConnectionLostError, ProtocolError)) as caught:
        run(raise_cause(BROKEN, answer, ("127.0.0.1", port), HOST, use_tls=True), deadline_after(DEADLINE))
    return caught.value


def test_another_version_is_an_error_with_both_numbers() -> None:
    other = bytearray(packed(Purpose.OTHER_VERSION))
    other[4] = VERSION + 1
    error = cause(bytes(other))
    assert isinstance(error, ProtocolError)
    assert f"version {VERSION + 1} of the protocol, this side version {VERSION}" in str(error)


def test_an_endless_answer_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def dribble() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"PSR")
                while sock.recv(100):
                    pass

        thread = threading.Thread(target=dribble)
        thread.start()
        error = cause(b"", listener.getsockname()[1])
        thread.join(DEADLINE)
    assert str(error).startswith("another service answers on port 4000 ('PSR')")
    assert str(error).endswith("(it broke)")
    assert error.__cause__ is BROKEN


def test_where_nobody_listens_any_more_the_first_error_stays() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert str(cause(b"", port)).endswith("(it broke)")
