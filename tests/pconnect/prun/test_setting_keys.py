"""The names and values of settings in the users' form."""

from dataclasses import fields
from pathlib import Path

import pytest

from pconnect.errors import ConfigurationError
from pconnect.prun.setting_keys import KEY_OF, KEYS, setting
from pconnect.prun.settings import Settings


def test_each_setting_has_one_key() -> None:
    assert sorted(KEYS.values()) == sorted(each.name for each in fields(Settings))
    assert {KEYS[key] for key in KEY_OF.values()} == set(KEYS.values())


@pytest.mark.parametrize(
    ("key", "value", "made"),
    [
        ("where", "server", ("here", False)),
        ("or_local", True, ("or_here", True)),
        ("queue_timeout", 60, ("queue_limit", 60)),
        ("on", ["alpha", 2], ("on", ("alpha", "2"))),
        ("on", 2, ("on", ("2",))),
        ("env", ["LANG", "A=b c=", "OMP_*"], ("env", ("LANG", "A=b c=", "OMP_*"))),
        ("map_dir", {"~/a": "/b"}, ("map_dir", ((str(Path.home() / "a"), "/b"),))),
        ("accept", "memory>8G", ("accept", "memory>8G")),
        ("nice", 19, ("nice", 19)),
        ("time_limit", 0.5, ("time_limit", 0.5)),
        ("terminal", False, ("terminal", False)),
        ("send", "a/b", ("send", ("a/b",))),
    ],
)
def test_values_become_settings(key: str, value: object, made: tuple[str, object]) -> None:
    assert setting(key, value) == made
    Settings(**{made[0]: made[1]})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("nicee", 1, r"'nicee' is not a setting of prun \(did you mean nice\?\)"),
        ("or_here", True, r"'or_here' is not a setting of prun"),
        ("where", "anywhere", "where must be one of server, local, not 'anywhere'"),
        ("where", ["local"], "where must be one of"),
        ("nice", 20, "nice: it must be at most 19, not 20"),
        ("nice", -1, "nice must be a non-negative integer, not -1"),
        ("nice", True, "nice must be a non-negative integer"),
        ("stdin", "no", "stdin must be true or false, not 'no'"),
        ("time_limit", 0, "time_limit: it must be more than 0"),
        ("queue_timeout", float("nan"), "queue_timeout must be a non-negative number, not nan"),
        ("on", [], None),
        ("on", [True], "on must be a string or a list of strings"),
        ("on", [""], "on must be a string or a list of strings"),
        ("send", ["../x"], "send: '../x' is not a file in or below the current folder"),
        ("fetch", "/x", "fetch: '/x' is not a file"),
        ("env", "A B", "env: 'A B' is not NAME or NAME=VALUE"),
        ("env", "=x", "env: '=x' is not NAME"),
        ("map_dir", {"a": "/b"}, "map_dir: 'a' is not an absolute path"),
        ("map_dir", {"/a": "b"}, "map_dir: 'b' is not an absolute path"),
        ("map_dir", {"/a": 1}, "map_dir must be a table of folders"),
        ("map_dir", "/a=/b", "map_dir must be a table of folders"),
        ("cwd", "~/x", "cwd: '~/x': your home folder may have another path on the server"),
        ("cwd", "/a\0b", "cwd must not contain a null character"),
        ("accept", "memory>8", "accept 'memory>8', column 8"),
    ],
)
def test_what_cannot_be_a_setting_is_refused(key: str, value: object, message: str | None) -> None:
    if message is None:
        assert setting(key, value) == (key, ())
        return
    with pytest.raises(ConfigurationError, match=message):
        setting(key, value)
