"""A few seconds of each fuzzer; what is found is in its error, with the seed."""

import secrets
from pathlib import Path

import pytest

from tests.fuzz import hostile_server, strangers
from tests.support.servers import run_server


@pytest.mark.slow
@pytest.mark.parametrize("name", ["login", "preamble"])
def test_strangers_do_no_harm(name: str, tmp_path: Path) -> None:
    with run_server(tmp_path / "server") as server:
        assert strangers.run(server, name, 3, secrets.randbelow(2**31)) > 10


@pytest.mark.slow
def test_changed_answers_end_a_login_by_an_error_of_its_own(tmp_path: Path) -> None:
    with run_server(tmp_path / "server") as server:
        assert hostile_server.run(server, 5, secrets.randbelow(2**31)) > 1
