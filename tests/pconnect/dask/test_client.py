"""Dask's client of a network by itself; integration/test_dask.py tests it with real servers."""

import pytest

from pconnect.dask.client import NetworkClient
from srp_tools.certificates import NetworkAuthority
from tests.support.servers import Server

IDENTITY = NetworkAuthority(bytes(16)).own_role("client")


def test_an_address_without_a_scheduler(server: Server) -> None:
    with pytest.raises(OSError, match=r"tls://127.0.0.1"):
        NetworkClient.connect(f"tls://127.0.0.1:{server.data_port}", IDENTITY, 0.2, {})


def test_an_unknown_option() -> None:
    with pytest.raises(ValueError, match="n_workers"):
        NetworkClient.connect("tls://127.0.0.1:1", IDENTITY, 0.2, {"n_workers": 3})
