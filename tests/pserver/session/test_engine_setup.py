"""The facts that a server adds to the set-up of an engine."""

from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import ProtocolError
from pconnect.values.encoder import pack
from pserver.config.limit_options import SessionLimits
from pserver.session.engine_setup import EngineSetup
from pserver.session.login import AuthenticatedClient


def setup(folder: Path, limits: SessionLimits) -> EngineSetup:
    client = AuthenticatedClient(None, b"n" * 16, 2, None)  # type: ignore[arg-type]
    return EngineSetup(client, str(folder), limits)


def of_client(directory: str) -> dict[str, Any]:
    return {
        "nodes": pack([["a", []], ["b", []]]),
        "directory": directory,
        "links": {},
        "server_limits": {"nice": 1},
    }


def test_what_the_client_says_of_limits_does_not_count(tmp_path: Path) -> None:
    made = setup(tmp_path, SessionLimits(memory=2**30)).complete(2, of_client("/"))
    assert made["server_limits"] == {"memory": 2**30}
    assert (made["node"], made["session_folder"], made["identity"]) == (2, str(tmp_path), None)
    assert "links" not in made


def test_without_the_clients_folder_the_engine_runs_in_its_own(tmp_path: Path) -> None:
    made = setup(tmp_path, SessionLimits()).complete(2, of_client("/not/here"))
    assert (made["directory"], made["directory_is_clients"]) == (str(tmp_path / "work"), False)
    assert (tmp_path / "work").is_dir()


@pytest.mark.parametrize("node", [1, 3])
def test_one_for_another_node_makes_no_sense(node: int, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="it is not for node 2"):
        setup(tmp_path, SessionLimits()).complete(node, of_client("/"))
