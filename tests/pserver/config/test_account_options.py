import pytest

from pserver.config.server_config import ServerConfig


@pytest.mark.parametrize(
    ("user", "allow_root", "has_accounts"), [(0, False, True), (0, True, False), (1000, False, False)]
)
def test_sessions_of_root_have_accounts(
    user: int, allow_root: bool, has_accounts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    config = ServerConfig(allow_root=allow_root, name="one")
    assert config.has_accounts is has_accounts
    assert (str(config.kept_folder()) == "/var/lib/pserver/one/kept") is has_accounts
