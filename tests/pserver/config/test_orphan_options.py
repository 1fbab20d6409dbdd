import pytest

from pserver.config.server_config import ServerConfig
from srp_tools.errors import ConfigurationError


@pytest.mark.parametrize("minutes", [-1.0, 30_000.0, float("nan"), float("inf")])
def test_the_minutes_have_a_limit(minutes: float) -> None:
    with pytest.raises(ConfigurationError, match=r"--orphan-timeout .*: give minutes, from 0 to 20160"):
        ServerConfig(orphan_timeout=minutes)


def test_without_a_login_nobody_could_come_back() -> None:
    with pytest.raises(ConfigurationError, match="--orphan-timeout and --no-tls"):
        ServerConfig(orphan_timeout=0.5, use_tls=False)
    assert ServerConfig(use_tls=False).orphan_timeout == 0
    assert ServerConfig(orphan_timeout=0.5).orphan_timeout == 0.5
