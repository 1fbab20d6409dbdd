import pytest

from pserver.config.advertised import check_advertised, parse_advertised, places_of
from srp_tools.errors import ConfigurationError


def test_what_is_left_out_is_as_at_the_server() -> None:
    assert places_of(["gate", "gate:7", "gate:7:8", "[::1]:7:8", "[::1]", "192.0.2.1:7"], 1, 2) == [
        ("gate", 1, 2), ("gate", 7, 2), ("gate", 7, 8), ("::1", 7, 8), ("::1", 1, 2), ("192.0.2.1", 7, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "gate:", "gate:x", "gate:7:", "gate:7:x", "gate:7:0", "gate:7:8:9", "gate:7/8", "gate*2", "2001:db8::1", ":7",
     "[::1", "[::1]x:7", "a b", "12502", "u@gate"],
)  # fmt: skip
def test_what_it_may_not_be(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^'.*write HOST, HOST:COMMAND-PORT or"):
        parse_advertised(text)
    with pytest.raises(ConfigurationError, match=r"^--advertise (?!.*--advertise)"):
        check_advertised([text])


def test_there_is_an_end() -> None:
    with pytest.raises(ConfigurationError, match="17 addresses; give at most 16"):
        check_advertised([f"gate:{port}" for port in range(1, 18)])
