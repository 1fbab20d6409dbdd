import os
import secrets
import socket
import stat
from pathlib import Path

import pytest

from pconnect.errors import AuthenticationError, ConnectionLostError
from pconnect.link.dialing import dial
from pconnect.link.local_link import (
    TOKEN_BYTES,
    LocalAddress,
    accept_local,
    check_account,
    dial_local,
    has_hung_up,
    link_token,
    listen,
    own_place,
    read_address,
)
from pconnect.protocol.frames import HELLO, PREAMBLE_BYTES, Preamble, Purpose
from srp_tools.channel import Channel
from srp_tools.steps import Steps, Wait, deadline_after, run, run_all
from tests.support.accounts import NOBODY, in_child, needs_root, take_on
from tests.support.channels import socket_pair

LIMIT = 20.0
TOKEN = bytes(range(TOKEN_BYTES))  # fixed, because the name of a parametrized test contains it
PREAMBLE = Preamble(Purpose.DATA, secrets.token_bytes(16), 1, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / ("long" * 40)  # longer than a socket address allows
    folder.mkdir(mode=0o700)
    return folder / "name.socket"


def accept(listener: socket.socket) -> socket.socket:
    listener.settimeout(LIMIT)
    sock, _ = listener.accept()
    assert Preamble.unpack(sock.recv(PREAMBLE_BYTES, socket.MSG_WAITALL)) == PREAMBLE
    sock.setblocking(False)
    return sock


def test_a_place_is_that_of_account_and_machine() -> None:
    place = own_place()
    assert place and place == own_place()
    assert f" {os.geteuid()} user:[" in place


@needs_root
def test_another_account_is_another_place() -> None:
    other = in_child(NOBODY, own_place)
    assert f" {NOBODY} user:[" in other
    assert other != own_place()


@pytest.mark.parametrize("value", [None, [], ["place"], ["", "path"], ["place", ""], ["place", 1], 7])
def test_an_offer_without_address(value: object) -> None:
    assert read_address(value) is None
    assert read_address(["place", "path"]) == LocalAddress("place", "path")


def test_tokens_are_of_one_link() -> None:
    key = secrets.token_bytes(TOKEN_BYTES)
    tokens = {link_token(key, a, b) for a in range(4) for b in range(a)}
    assert len(tokens) == 6
    assert link_token(key, 1, 2) == link_token(key, 2, 1)
    assert link_token(secrets.token_bytes(TOKEN_BYTES), 1, 2) not in tokens
    assert {len(token) for token in tokens} == {TOKEN_BYTES}


def test_both_ends_accept_each_other(path: Path) -> None:
    path.write_text("what a killed server left")
    with listen(path) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        near = run(dial_local(str(path), TOKEN, PREAMBLE), deadline_after(LIMIT))
        far = run(accept_local(accept(listener), TOKEN), deadline_after(LIMIT))
    assert near.transport == far.transport == "unix"
    run(far.send_all(HELLO), deadline_after(LIMIT))
    assert run(near.receive_exactly(len(HELLO)), deadline_after(LIMIT)) == HELLO
    near.close()
    far.close()


@pytest.mark.parametrize("expected", [None, bytes(TOKEN_BYTES), TOKEN[:-1]], ids=["none", "other", "short"])
def test_the_wrong_token_and_one_where_there_is_to_be_no_link(path: Path, expected: bytes | None) -> None:
    with listen(path) as listener:
        near = run(dial_local(str(path), TOKEN, PREAMBLE), deadline_after(LIMIT))
        with accept(listener) as sock, pytest.raises(AuthenticationError, match="token"):
            run(accept_local(sock, expected), deadline_after(LIMIT))
    near.close()


def test_a_peer_that_has_hung_up() -> None:
    near, far = socket_pair()
    with far:
        assert not has_hung_up(far)
        near.send(b"x")
        near.close()
        assert has_hung_up(far)
        with pytest.raises(ConnectionLostError):
            run(accept_local(far, TOKEN), deadline_after(LIMIT))


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_is_open_to_others(path: Path, mode: int) -> None:
    with listen(path):
        path.parent.chmod(mode)
        with pytest.raises(AuthenticationError, match="open to others"):
            run(dial_local(str(path), TOKEN, PREAMBLE), deadline_after(LIMIT))
        with pytest.raises(AuthenticationError, match="open to others"):
            listen(path)


def test_a_folder_that_is_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path.parent)
    with listen(path), pytest.raises(OSError, match="Not a directory"):
        run(dial_local(str(link / path.name), TOKEN, PREAMBLE), deadline_after(LIMIT))


def test_what_cannot_be_reached_locally_is_dialled_as_ever(path: Path) -> None:
    def answer(listener: socket.socket) -> Steps[Channel]:
        yield Wait(listener.fileno())
        channel = Channel(accept(listener))
        yield from channel.send_all(HELLO)
        return channel

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        steps = {"near": dial([address], PREAMBLE, None, 30.0, (str(path), TOKEN)), "far": answer(listener)}
        for end in run_all(steps, deadline_after(LIMIT)).values():
            assert isinstance(end, Channel)
            assert end.transport == "plain"
            end.close()
    with pytest.raises(
        ConnectionLostError, match=r"name\.socket: No such file or directory; 127\.0\.0\.1 port"
    ):
        run(dial([address], PREAMBLE, None, 30.0, (str(path), TOKEN)), deadline_after(LIMIT))


@needs_root
def test_another_account_is_not_let_in_though_it_has_the_descriptor(path: Path) -> None:
    """The folder keeps strangers out. Even past it, and with the right token, they get nothing."""
    with listen(path) as listener:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)

        def through_the_folder() -> str:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(Path("/proc/self/fd", str(folder), path.name)))
                return "connected"

        assert "PermissionError" in in_child(NOBODY, through_the_folder)
        path.parent.chmod(0o711)
        path.chmod(0o666)

        def past_the_folder() -> str:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(Path("/proc/self/fd", str(folder), path.name)))
                sock.sendall(PREAMBLE.pack() + TOKEN)
                return "connected"

        assert in_child(NOBODY, past_the_folder) == "connected"
        with accept(listener) as sock, pytest.raises(AuthenticationError, match="another account"):
            run(accept_local(sock, TOKEN), deadline_after(LIMIT))
        os.close(folder)


@needs_root
def test_a_server_of_another_account_hears_no_token(path: Path) -> None:
    """A folder of this account in which another account serves the socket: nothing is sent to it."""
    path.parent.chmod(0o777)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        take_on(NOBODY)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(Path("/proc/self/fd", str(folder), path.name)))
            listener.listen()
            os.write(writer, b"ready")
            sock, _ = listener.accept()
            os.write(writer, sock.recv(1000) or b"nothing")
        os._exit(0)
    assert os.read(reader, 100) == b"ready"
    path.parent.chmod(0o700)
    with pytest.raises(AuthenticationError, match="another account"):
        run(dial_local(str(path), TOKEN, PREAMBLE), deadline_after(LIMIT))
    assert os.read(reader, 100) == b"nothing"
    os.waitpid(child, 0)
    for descriptor in (folder, reader, writer):
        os.close(descriptor)


def test_this_account_is_let_in() -> None:
    near, far = socket_pair()
    with near, far:
        check_account(near)
        check_account(far)
