import pytest

from pserver.config.log_options import LogForm
from pserver.config.server_config import ServerConfig
from srp_tools.errors import ConfigurationError


@pytest.mark.parametrize("count", [1, 10**9])
def test_a_number_of_files(count: int) -> None:
    with pytest.raises(ConfigurationError, match=f"--log-files {count}: give 2 to 1000"):
        ServerConfig(log_files=count)


def test_a_size_is_not_negative() -> None:
    with pytest.raises(ConfigurationError, match="--log-size -1: a size cannot be negative"):
        ServerConfig(log_size=-1)


def test_a_format_and_a_level_are_among_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match="--log-format xml: give one of text, json"):
        ServerConfig(log_format="xml")
    with pytest.raises(ConfigurationError, match="--log-level INFO: give one of debug, info, warning, error"):
        ServerConfig(log_level="INFO")


def test_debug_is_a_level() -> None:
    assert ServerConfig().log_form() == LogForm("text", "info")
    assert ServerConfig(log_format="json", log_level="error").log_form() == LogForm("json", "error")
    assert ServerConfig(log_level="error", debug=True).log_form().level == "debug"
