"""The list of hosts in the client's configuration."""

import stat
from pathlib import Path

import pytest

from pconnect import profiles
from pserver.deploy.host_list import add_hosts, remove_hosts


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return profiles.config_file()


def hosts() -> object:
    """Return the hosts that `pconnect` uses if its caller names none."""

    @profiles.configured
    def connect(hosts: object = None, *, profile: str | None = None) -> object:
        return hosts, profile

    return connect()[0]  # type: ignore[index]


def test_hosts_are_added_once_and_removed(path: Path) -> None:
    assert add_hosts(path, ["alpha", "beta:12600"])
    assert hosts() == ["alpha", "beta:12600"]
    assert add_hosts(path, ["gamma", "alpha"])
    assert hosts() == ["alpha", "beta:12600", "gamma"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    remove_hosts(path, ["beta:12600", "unknown"])
    assert hosts() == ["alpha", "gamma"]
    remove_hosts(path, ["gamma", "alpha"])
    assert not path.exists()
    remove_hosts(path, ["alpha"])
    assert not path.exists()


@pytest.mark.parametrize("text", ['hosts = ["mine"]\n', "user = 'x'\n", "not TOML", "hosts = 'x'\n", "\xff"])
def test_a_file_of_somebody_else_stays(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True)
    path.write_text(text, encoding="latin-1")
    assert not add_hosts(path, ["alpha"])
    remove_hosts(path, ["mine"])
    assert path.read_text(encoding="latin-1") == text


def test_a_list_that_somebody_has_gone_on_with_is_theirs(path: Path) -> None:
    add_hosts(path, ["alpha"])
    path.write_text(path.read_text() + "timeout = 60\n")
    assert not add_hosts(path, ["beta"])
    remove_hosts(path, ["alpha"])
    assert "alpha" in path.read_text()
