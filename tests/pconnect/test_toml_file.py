"""The line numbers in errors about files; the tests of the modules that read files check the texts."""

from pathlib import Path

import pytest

from pconnect.errors import ConfigurationError
from pconnect.toml_file import TomlFile, fault, read_toml

TEXT = """\
top = 1
[a.b]
c = 1

[[rule]]
match = "x"
[rule.map]
d = 1
[[rule]]
  match = [
    "y",
  ]
[[rule.inner]]
e = 1
[[rule.inner]]
e = 2
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("top",), 1),
        (("a",), 2),
        (("a", "b", "c"), 3),
        (("a", "b", "x"), 2),
        (("rule",), 5),
        (("rule", 0), 5),
        (("rule", 0, "match"), 6),
        (("rule", 0, "map", "d"), 8),
        (("rule", 1), 9),
        (("rule", 1, "match"), 10),
        (("rule", 1, "missing"), 9),
        (("rule", 1, "inner", 0, "e"), 14),
        (("rule", 1, "inner", 1, "e"), 16),
        (("nothing",), None),
    ],
)
def test_a_place_has_its_line(place: tuple[str | int, ...], line: int | None) -> None:
    file = TomlFile(Path("name.toml"), TEXT)
    assert file.line(place) == line
    assert str(file.error(place, "text")) == (f"name.toml, line {line}: text" if line else "name.toml: text")


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_toml(tmp_path / "x.toml") is None


def test_a_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("a = 1")
    file.chmod(0o646)
    with pytest.raises(ConfigurationError, match="chmod go-w"):
        read_toml(file)
    file.chmod(0o644)
    found = read_toml(file)
    assert found is not None and found.content == {"a": 1}


def test_a_value_of_the_wrong_type_is_named() -> None:
    assert fault("n", 1, int | None) is None
    assert fault("n", -1, int | None) == "n must be a non-negative integer, not -1"
    assert fault("n", "x", bool | str) is None
