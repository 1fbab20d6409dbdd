import pytest

from pserver.config.option import parse_size
from srp_tools.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("17", 17), ("1k", 1024), ("3M", 3 * 2**20), ("1t", 2**40)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "10q", "k", "-1", "1.5g", "1 k", "1kb", "1k\n", "\u0661"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a size: give a number of bytes"):
        parse_size(text)


def test_a_size_is_one_that_the_system_takes() -> None:
    with pytest.raises(ConfigurationError, match="more than any machine has"):
        parse_size("16777216t")
