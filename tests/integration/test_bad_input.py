"""Each mistake gives one clear error within its deadline, and harms nothing else."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pconnect import (
    AuthenticationError,
    ConnectError,
    CredentialError,
    EngineDiedError,
    MessageTooLargeError,
    Network,
    RemoteError,
    UnsupportedValueError,
    pconnect,
    precv,
    psend,
    reval,
)
from srp_tools.credentials import Credentials, save_credentials
from tests.support.servers import Server
from tests.support.waiting import DEADLINE

MakeNetwork = Callable[..., Network]


@contextlib.contextmanager
def speaker(greeting: bytes) -> Iterator[str]:
    """Run a server that sends `greeting` to each client and then waits; yield its host."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[socket.socket] = []

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    heard.append(sock)
                    sock.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for sock in heard:
                sock.close()


def refused_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def fail(hosts: object, *, timeout: float = DEADLINE, use_tls: bool = True) -> ConnectError:
    begin = time.monotonic()
    with pytest.raises(ConnectError) as caught:
        pconnect(hosts, user="alice", password="secret", timeout=timeout, use_tls=use_tls)
    assert time.monotonic() - begin < timeout + 2
    return caught.value


def test_a_host_that_does_not_exist() -> None:
    error = fail("no-such-host.invalid")
    assert str(error).startswith("could not connect to no-such-host.invalid: ")
    assert "not known" in str(error) or "resol" in str(error)


def test_a_port_where_nobody_listens() -> None:
    host = refused_port()
    error = str(fail(host))
    assert error.startswith(f"could not connect to {host}: ")
    assert "refused" in error


@pytest.mark.parametrize("use_tls", [True, False])
def test_a_port_that_is_silent(use_tls: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        error = fail(host, timeout=0.5, use_tls=use_tls)
    assert isinstance(error.reasons[host], TimeoutError)
    assert "accepts connections, but the login timed out after 0." in str(error)


@pytest.mark.parametrize("use_tls", [True, False])
@pytest.mark.parametrize(
    ("greeting", "service"),
    [
        (
            b"SSH-2.0-OpenSSH_9.6\r\n",
            "an SSH server answers on port {} ('SSH-2.0-OpenSSH_9.6'): give the command port",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "a web server answers on port {} ('HTTP/1.1 400 Bad Request'): give",
        ),
        (b"\0" * 1000, "another service answers on port {}: give the command port"),
    ],
)
def test_a_server_that_speaks_something_else(greeting: bytes, service: str, use_tls: bool) -> None:
    with speaker(greeting) as host:
        error = str(fail(host, use_tls=use_tls))
    assert error.startswith(f"could not connect to {host}: {service.format(host[10:])}")
    assert ("does not speak TLS" if use_tls else "not a pserver") in error


def test_every_host_has_its_reason_and_the_good_one_is_left_alone(
    server: Server, network: MakeNetwork
) -> None:
    net = network()
    refused = refused_port()
    with pytest.raises(ConnectError) as caught:
        pconnect(
            [server.host, refused, "no-such-host.invalid"],
            user=server.credentials.user,
            password=server.credentials.password,
            timeout=DEADLINE,
        )
    assert list(caught.value.reasons) == [refused, "no-such-host.invalid"]
    assert "could not connect to 2 hosts" in str(caught.value)
    reval("psend(1, sockets[0])", net)
    assert precv(net[1], timeout=DEADLINE) == 1


def test_the_hosts_that_fail_are_named_in_the_order_of_the_list() -> None:
    refused = refused_port()
    hosts = ["no-such-host.invalid", refused]
    assert list(fail(hosts).reasons) == hosts
    assert list(fail(hosts[::-1]).reasons) == hosts[::-1]


@pytest.mark.parametrize("use_tls", [True, False])
def test_the_data_port_is_not_the_command_port(server: Server, plain_server: Server, use_tls: bool) -> None:
    for there in (server, plain_server):
        text = str(fail(f"127.0.0.1:{there.data_port}", use_tls=use_tls))
        assert f"this is the data port of that pserver: give its command port, {there.host} (" in text


def test_tls_at_a_server_without_it(plain_server: Server) -> None:
    error = str(fail(plain_server.host))
    assert error.count("\n") == 0
    assert "that pserver has no encryption and no login: start it again without --no-tls" in error
    assert "use_tls=False" not in error  # that would send everything unencrypted


def test_no_tls_at_a_server_with_it(server: Server) -> None:
    error = str(fail(server.host, use_tls=False))
    assert error.count("\n") == 0
    assert "this server uses TLS" in error


def refusal(server: Server, user: str, password: str) -> str:
    with pytest.raises(AuthenticationError) as caught:
        pconnect(server.host, user=user, password=password, timeout=DEADLINE)
    assert password not in str(caught.value)
    return str(caught.value)


def test_wrong_password_and_unknown_user_have_the_same_answer(server: Server) -> None:
    wrong = refusal(server, server.credentials.user, "not the password")
    unknown = refusal(server, "mallory", server.credentials.password)
    # The rest is derived from the salt and the name, which a client sees anyway.
    texts = [text.partition("if it does not show ")[0] for text in (wrong, unknown)]
    assert texts[0] == texts[1] != wrong
    assert server.host in wrong


def test_a_password_file_that_others_can_read(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "private" / "client"
    path.parent.mkdir(mode=0o700)
    save_credentials(Credentials(server.credentials.user, server.credentials.password), path)
    with pconnect(server.host, password_file=path, timeout=DEADLINE) as net:
        assert len(net) == 2
    path.chmod(0o644)
    with pytest.raises(CredentialError, match=r"chmod") as caught:
        pconnect(server.host, password_file=path, timeout=DEADLINE)
    assert str(path) in str(caught.value)
    assert server.credentials.password not in str(caught.value)


def test_a_command_with_a_syntax_error(network: MakeNetwork) -> None:
    net = network()
    with pytest.raises(RemoteError) as caught:
        reval("x = = 1", net).result(DEADLINE)
    assert caught.value.type_name == "SyntaxError"
    assert "x = = 1" in caught.value.remote_traceback
    assert_usable(net)


def test_sys_exit_is_an_error_of_the_command(network: MakeNetwork) -> None:
    net = network()
    with pytest.raises(RemoteError) as caught:
        reval("import sys; x = 5; sys.exit('enough')", net).result(DEADLINE)
    assert caught.value.type_name == "SystemExit"
    assert "enough" in str(caught.value)
    reval("psend(x, sockets[0])", net)
    assert precv(net[1], timeout=DEADLINE) == 5


def test_os_exit_is_the_end_of_one_engine(network: MakeNetwork) -> None:
    net = network(2)
    with pytest.raises(EngineDiedError, match=r"node 1 .*exit status 7"):
        reval("import os; os._exit(7)", net[1]).result(DEADLINE)
    with pytest.raises(EngineDiedError, match=r"node 1 .*exit status 7"):
        precv(net[1], timeout=DEADLINE)
    with pytest.raises(EngineDiedError, match=r"node 1 .*exit status 7"):
        reval("x = 1", net[1]).result(DEADLINE)
    assert_usable(net[2:])


def test_a_value_that_cannot_be_sent(network: MakeNetwork) -> None:
    net = network()
    with pytest.raises(UnsupportedValueError, match=r"value\['a'\]\[1\].*object"):
        psend({"a": [1, object()]}, net)
    with pytest.raises(RemoteError, match=r"UnsupportedValueError.*(?s:.*)value\['a'\]\[1\].*Lock|lock"):
        reval("import threading; psend({'a': [1, threading.Lock()]}, sockets[0])", net).result(DEADLINE)
    assert_usable(net)


def test_a_value_that_is_too_large(network: MakeNetwork) -> None:
    net = network(2, max_message_bytes=2**20)
    with pytest.raises(MessageTooLargeError, match="1048576"):
        psend(np.zeros(2**20, np.uint8), net)
    command = reval("psend(np.zeros(2**20, np.uint8), sockets[0])", net[1])
    with pytest.raises(RemoteError, match="MessageTooLargeError"):
        command.result(DEADLINE)
    with pytest.raises(RemoteError, match="MessageTooLargeError"):
        reval("psend(bytes(2**20), sockets[2])", net[1]).result(DEADLINE)
    assert_usable(net)
    reval("psend(np.ones(2**19, np.uint8), sockets[0])", net)
    assert [int(precv(c, timeout=DEADLINE).sum()) for c in net[1:]] == [2**19] * 2


def assert_usable(net: Network) -> None:
    """Check that nothing is left over and that values pass in both directions."""
    links = [connection for connection in net if not connection.is_own]
    reval("psend((precv(sockets[0]), sockets.node), sockets[0])", net)
    psend("and back", net)
    for connection in links:
        assert precv(connection, timeout=DEADLINE) == ("and back", connection.node)
