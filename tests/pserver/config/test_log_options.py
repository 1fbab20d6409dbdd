import pytest

from pserver.config.server_config import ServerConfig
from srp_tools.errors import ConfigurationError


@pytest.mark.parametrize("count", [1, 10**9])
def test_a_number_of_files(count: int) -> None:
    with pytest.raises(ConfigurationError, match=f"--log-files {count}: give 2 to 1000"):
        ServerConfig(log_files=count)


def test_a_size_is_not_negative() -> None:
    with pytest.raises(ConfigurationError, match="--log-size -1: a size is not negative"):
        ServerConfig(log_size=-1)
