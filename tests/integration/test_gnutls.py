"""GnuTLS's programs and a running server understand each other: the login is standard TLS-SRP (RFC 5054)."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pconnect import AuthenticationError, Network, pconnect, precv, reval
from srp_tools.credentials import Credentials
from tests.support.programs import program
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE

PRIORITY = "NORMAL:-KX-ALL:+SRP:-VERS-ALL:+VERS-TLS1.2"


def gnutls_cli(server: Server, user: str, password: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            program("gnutls-cli", "gnutls-bin"),
            *("--srpusername", user, "--srppasswd", password, "--priority", PRIORITY),
            *("-p", str(server.cmd_port), "127.0.0.1"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",  # it shows the server's offer
        timeout=DEADLINE,
        check=False,
    )


def test_gnutls_cli_completes_a_handshake(server: Server) -> None:
    answer = gnutls_cli(server, server.credentials.user, server.credentials.password)
    assert "Handshake was completed" in answer.stdout, answer.stdout
    assert "TLS1.2" in answer.stdout
    assert "SRP" in answer.stdout


@pytest.mark.parametrize("user", ["alice", "mallory"])
def test_gnutls_cli_is_refused(server: Server, network: Callable[..., Network], user: str) -> None:
    answer = gnutls_cli(server, user, "not the password")
    assert answer.returncode != 0
    assert "Handshake was completed" not in answer.stdout
    assert "Bad record MAC" in answer.stdout
    net = network()
    reval("psend(1, sockets[0])", net)
    assert precv(net[1], timeout=DEADLINE) == 1


@pytest.mark.parametrize(("index", "bits"), [(3, 2048), (4, 3072)])
def test_a_verifier_made_by_srptool_logs_in(tmp_path: Path, index: int, bits: int) -> None:
    folder = tmp_path / "server"
    folder.mkdir(mode=0o700)
    file, password = folder / "tpasswd", f"correct horse {bits}"
    files = ["--passwd", str(file), "--passwd-conf", f"{file}.conf"]
    for arguments in (["--create-conf", f"{file}.conf"], ["-u", "bob", "-i", str(index), *files]):
        subprocess.run(
            [program("srptool", "gnutls-bin"), *arguments],
            input=f"{password}\n",
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
    for path in (file, Path(f"{file}.conf")):
        path.chmod(0o600)
    with run_server(folder, users=(Credentials("bob", password), file)) as server:
        with server.connect(2) as net:
            reval("psend(precv(sockets[3 - sockets.node]), sockets[0])", net[1])
            reval("psend('hello', sockets[3 - sockets.node])", net[2])
            assert precv(net[1], timeout=DEADLINE) == "hello"
        with pytest.raises(AuthenticationError):
            pconnect(server.host, user="bob", password="incorrect horse", timeout=DEADLINE)
