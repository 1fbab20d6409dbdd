"""What a network says of jobs that outlive it; the whole way is in `tests.integration.test_detach`."""

import time
from pathlib import Path

import pytest

from pconnect import ConfigurationError, CredentialError, local_network
from pconnect.calls import client_mesh
from pconnect.tokens import unpack_token


def test_a_token_says_where_and_which() -> None:
    with local_network(1, slots=1) as net:
        jobs = [net.submit("__import__('time').sleep", 0.2) for _ in range(3)]
        jobs.append(net.executor(allow_pickle=True).submit(time.sleep, 0.2))
        jobs[0].result(20)
        hosts, network_id = client_mesh(net.mesh).hosts, net.network_id
        token = unpack_token(net.detach())
        left = [job.number for job in jobs if job.exception(0) is not None]
        assert net.closed
        assert "the network was detached; recover it with the token" in str(
            net.submit(pow, 1, 1).exception(20)
        )
    assert (token.network_id.hex(), list(token.hosts)) == (network_id, hosts)
    assert (token.jobs, set(token.pickled)) == ({1: left}, {4})
    assert 1 not in left


def test_without_a_place_for_the_token_nothing_happens(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    with local_network(1, slots=1) as net:
        jobs = [net.submit("__import__('time').sleep", 0.1) for _ in range(3)]
        with pytest.raises(CredentialError, match="is open to others"):
            net.detach(path=folder / "token")
        assert [job.result(20) for job in jobs] == [None] * 3
        assert net.submit(pow, 2, 3).result(20) == 8
        assert net.jobs == {}


def test_no_time_to_hand_over() -> None:
    with local_network(1, slots=1) as net:
        job = net.submit("__import__('time').sleep", 0.5)
        with pytest.raises(TimeoutError, match="could not be handed over"):
            net.detach(timeout=0)
        assert job.result(20) is None
        with pytest.raises(ConfigurationError, match="nothing to detach"):
            net.detach()
