"""The file of a network: when it is written and removed, and options that contradict it."""

from pathlib import Path

import pytest

from pconnect import ConfigurationError, ConnectionLostError, pconnect
from pconnect.link.host_names import Host
from pconnect.protocol.frames import Limits
from pconnect.resume.keeping import check_resume
from pconnect.resume.resume_file import ResumeFile, read_file
from srp_tools import CredentialError
from tests.support.servers import Server, connect
from tests.support.waiting import wait_until

SAVED = ResumeFile(
    bytes(16), bytes(32), None, Limits(5, 6), 30.0, (Host("alpha", "alpha", 12502),), {1: b"key"}
)


def test_contradicting_options_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "f"
    check_resume(None, None, ["beta"], "token", use_tls=False)
    check_resume(file, None, ["beta"], None, use_tls=True)
    check_resume(file, SAVED, None, None, use_tls=True)
    check_resume(file, SAVED, ["alpha:12502"], None, use_tls=True)
    with pytest.raises(ConfigurationError, match="resume= and recover= are both given"):
        check_resume(file, None, None, "token", use_tls=True)
    with pytest.raises(ConfigurationError, match="resume= needs a login"):
        check_resume(file, None, ["alpha"], None, use_tls=False)
    for hosts in (["beta"], ["alpha", "alpha"]):
        with pytest.raises(
            ConfigurationError, match=r"f belongs to a network of other hosts, alpha: give these"
        ):
            check_resume(file, SAVED, hosts, None, use_tls=True)


def test_the_file_exists_as_long_as_the_network(waiting_server: Server, tmp_path: Path) -> None:
    with connect([waiting_server], resume=tmp_path / "f") as net:
        saved = read_file(tmp_path / "f")
        assert saved is not None
        assert saved.network_id.hex() == net.network_id
    assert not (tmp_path / "f").exists()


def test_the_file_stays_if_no_session_noticed_the_close(waiting_server: Server, tmp_path: Path) -> None:
    file, login = tmp_path / "f", waiting_server.credentials
    net = connect([waiting_server], resume=file)
    other = connect([waiting_server], resume=file, take_over=True)
    net.close()
    assert file.exists()
    other.mesh.servers[1].command.lose(ConnectionLostError("the network is down"))  # type: ignore[attr-defined]
    other.close()
    assert file.exists()
    wait_until(lambda: waiting_server.status_now()["sessions"][0]["orphaned"], "the session to wait")
    with pconnect(user=login.user, password=login.password, resume=file) as net:
        assert net.resumed
    assert not file.exists()


def test_the_file_of_another_network_stays(waiting_server: Server, tmp_path: Path) -> None:
    file = tmp_path / "f"
    with connect([waiting_server], resume=file):
        file.unlink()
        other = connect([waiting_server], resume=file)
    assert file.exists()
    other.close()
    assert not file.exists()


def test_a_server_whose_sessions_do_not_wait_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match=f"sessions on {server.host} end with this client"):
        connect([server], resume=tmp_path / "f").close()


def test_a_file_that_cannot_be_written_ends_the_network(waiting_server: Server, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(CredentialError):
        connect([waiting_server], resume=tmp_path / "f")
    assert list(tmp_path.iterdir()) == []
