"""A few seconds of each fuzzer; its error shows the input and the seed."""

import secrets
from pathlib import Path

import pytest

from tests.fuzz import between
from tests.fuzz.__main__ import AT_SERVERS
from tests.support.servers import run_server


@pytest.mark.slow
@pytest.mark.parametrize("name", list(AT_SERVERS))
def test_what_nobody_should_say_does_no_harm(name: str, tmp_path: Path) -> None:
    with run_server(tmp_path / "server", *between.OPTIONS) as server:
        assert AT_SERVERS[name](server, 5, secrets.randbelow(2**31)) > 0
