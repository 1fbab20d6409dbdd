"""The sources of `pconnect` options that a call leaves out."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pconnect import ConfigurationError, pconnect
from pconnect.profiles import config_file, configured, configured_options
from tests.support.pages import fenced
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


@configured
def options(
    hosts: object = None,
    *,
    join: object = None,
    profile: str | None = None,
    recover: str | None = None,
    user: str | None = None,
    password: str | None = None,
    password_file: str | Path | None = None,
    use_tls: bool = True,
    required: bool | int = True,
    timeout: float = 30.0,
    size: int = 7,
) -> dict[str, Any]:
    """Stand in for `pconnect`, with parameters of all its types."""
    found = locals()
    defaults = {"use_tls": True, "required": True, "timeout": 30.0, "size": 7}
    return {name: value for name, value in found.items() if value != defaults.get(name)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for variable in ("HOSTS", "JOIN", "PROFILE", "USER", "PASSWORD"):
        monkeypatch.delenv(f"PCONNECT_{variable}", raising=False)
    return tmp_path / "pserver" / "client"


@pytest.fixture
def write(folder: Path) -> Callable[[str], None]:
    def written(text: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config_file().write_text(text)
        config_file().chmod(0o644)

    return written


TEXT = """
hosts = ["alpha*4", "beta:12600"]
user = "alice"
timeout = 60

[profiles.lab]
hosts = {gamma = 8}
use_tls = false
required = 2
password_file = "lab/credentials"

[profiles."night shift"]
hosts = "delta*2, epsilon"
password_file = "~/night"
required = false
"""


def test_without_a_file_nothing_changes() -> None:
    assert options("a", timeout=3.0) == {"hosts": "a", "timeout": 3.0}


def test_arguments_come_first_then_the_environment_then_the_profile_then_the_top(
    write: Callable[[str], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(TEXT)
    top = {"hosts": ["alpha*4", "beta:12600"], "user": "alice", "timeout": 60}
    lab = top | {
        "hosts": {"gamma": 8}, "use_tls": False, "required": 2, "password_file": folder / "lab/credentials",
    }  # fmt: skip
    assert options() == top
    assert options("a", user="bob", timeout=30.0) == {"hosts": "a", "user": "bob"}
    assert options(profile="lab") == lab | {"profile": "lab"}
    assert options(["b"], profile="lab", use_tls=True)["hosts"] == ["b"]
    monkeypatch.setenv("PCONNECT_PROFILE", "lab")
    assert options() == lab
    assert options(profile="night shift")["hosts"] == ["delta*2", "epsilon"]
    assert options(profile="night shift")["password_file"] == Path.home() / "night"
    assert options("a", profile="") == {"hosts": "a", "profile": ""}
    monkeypatch.setenv("PCONNECT_HOSTS", "alpha*4 beta:12600")
    assert options()["hosts"] == ["alpha*4", "beta:12600"]
    assert options("a")["hosts"] == "a"
    monkeypatch.setenv("PCONNECT_USER", "carol")  # `pconnect` itself reads it
    monkeypatch.setenv("PCONNECT_PASSWORD", "x")
    assert options().keys() == {"hosts", "timeout", "use_tls", "required"}


def test_what_a_call_without_arguments_takes_can_be_looked_at(
    write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(TEXT)
    assert configured_options(pconnect) == options()
    monkeypatch.setenv("PCONNECT_HOSTS", "zeta")
    monkeypatch.setenv("PCONNECT_USER", "carol")
    assert configured_options(pconnect) == {"hosts": ["zeta"], "timeout": 60}


@pytest.mark.parametrize("name", ["PCONNECT_HOSTS", "PCONNECT_PROFILE"])
def test_an_empty_variable_is_none(
    name: str, write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(TEXT)
    monkeypatch.setenv(name, "")
    assert options()["hosts"] == ["alpha*4", "beta:12600"]


def test_a_token_says_which_hosts(write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    write(TEXT)
    monkeypatch.setenv("PCONNECT_HOSTS", "a")
    assert options(recover="token", timeout=30.0) == {"recover": "token", "user": "alice"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "hosts = ['a']\n\nhots = 1",
            r"line 3: 'hots' is not an option of pconnect \(did you mean hosts\?\)",
        ),
        (
            "[profiles.a]\nuser='x'\n[profiles.lab]\n  'tmeout' = 1",
            r"line 4: 'tmeout' .*did you mean timeout",
        ),
        ("profiles.lab.tmeout = 1", "line 1: 'tmeout'"),
        ("profiles = {lab = {tmeout = 1}}", "line 1: 'tmeout'"),
        ("user = 'a'\n[lab]\nhosts = 'a'", r"line 2: 'lab' is not .*; write \[profiles.lab\] for a profile"),
        ("[profile.lab]\nhosts = 'a'", r"line 1: 'profile' is not an option .*did you mean profiles"),
        ("profiles = 3", r"line 1: profiles must be tables, such as \[profiles.lab\]"),
        ("[profiles]\nlab = 'alpha'", r"line 2: a profile must be a table: write \[profiles.lab\]"),
        ("a = 1\nb = = 2", r"pconnect.toml: .*line 2"),
        ("\npassword = 'x'", "line 2: a password must not be in this file"),
        ("recover = 'x'", "line 1: 'recover' is not an option"),
        ("profile = 'x'", "line 1: 'profile' is not an option"),
        ("hosts = 3", "line 1: hosts must be names"),
        ("hosts = ['a*0']", r"line 1: 'a\*0': the number of engines"),
        ("hosts = [\n 'a',\n 'b c',\n]", "line 1: 'b c' is not the name of a host"),
        ("user = 3", "line 1: user must be a string, not 3"),
        ("timeout = true", "line 1: timeout must be a non-negative number, not True"),
        ("use_tls = 1", "line 1: use_tls must be true or false, not 1"),
        ("size = 1.0", "line 1: size must be a non-negative integer, not 1.0"),
        ("required = 'x'", "line 1: required must be true or false or a non-negative integer, not 'x'"),
        ("user = 'a'\n# \xff", "line 2: the file is not UTF-8"),
        ("#" * 2**21, "too large"),
    ],
)
def test_errors_name_the_place_in_the_file(text: str, message: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    config_file().write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=message) as caught:
        options("host", profile="lab")
    assert str(config_file()) in str(caught.value)


def test_hosts_of_the_environment_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCONNECT_HOSTS", "alpha:x")
    with pytest.raises(ConfigurationError, match="PCONNECT_HOSTS: 'alpha:x': the port"):
        options()


def test_an_unknown_profile(write: Callable[[str], None]) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"there is no file .*pconnect.toml; create it with the line \[profiles.lab\]",
    ):
        options(profile="lab")
    write(TEXT)
    with pytest.raises(ConfigurationError, match=r"has no profile 'lbb' \(did you mean lab\?\)"):
        options(profile="lbb")
    write("user = 'a'")
    with pytest.raises(ConfigurationError, match=r"has no profile 'lab' \(it has none\)"):
        options(profile="lab")


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_configuration_that_others_can_write_is_refused(
    place: str, write: Callable[[str], None], folder: Path
) -> None:
    write(TEXT)
    (config_file() if place == "file" else folder).chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"the {place} .* writable by others .*chmod go-w"):
        options("a")
    assert options("a", profile="") == {"hosts": "a", "profile": ""}


def test_a_wrong_call_is_refused_in_the_name_of_the_function() -> None:
    with pytest.raises(TypeError, match=r"options\(\) got an unexpected keyword argument 'hots'"):
        options(hots=3)  # type: ignore[call-arg]


def test_without_any_hosts_the_error_says_where_to_put_them() -> None:
    with pytest.raises(ConfigurationError) as caught:
        pconnect()
    assert 'hosts = ["alpha*4", "beta:12600"]' in str(caught.value)
    assert f"write to {config_file()}" in str(caught.value)
    assert 'PCONNECT_HOSTS="alpha beta:12600"' in str(caught.value)


def test_a_network_of_hosts_that_stand_in_the_file(
    write: Callable[[str], None], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f"[profiles.lab]\nhosts = ['{server.host}*2']\nuser = '{server.credentials.user}'\n")
    monkeypatch.setenv("PCONNECT_PASSWORD", server.credentials.password)
    with pconnect(profile="lab", timeout=DEADLINE) as net:
        assert [node.host for node in net] == ["client", server.host, server.host]
    monkeypatch.setenv("PCONNECT_HOSTS", server.host)
    monkeypatch.setenv("PCONNECT_PROFILE", "lab")
    with pconnect(timeout=DEADLINE) as net:
        assert len(net) == 2


def test_hosts_and_pools_that_are_named_count_alone(
    write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write('hosts = "alpha"\njoin = "beta gamma:12600"\n')
    assert options() == {"hosts": ["alpha"], "join": ["beta", "gamma:12600"]}
    assert options("delta") == {"hosts": "delta"}
    assert options("delta", join=True) == {"hosts": "delta", "join": True}
    assert options(join="delta") == {"join": "delta"}
    assert options(join=False) == {"hosts": ["alpha"], "join": False}
    assert options(recover="token") == {"recover": "token"}
    monkeypatch.setenv("PCONNECT_JOIN", "epsilon")
    assert options() == {"join": ["epsilon"]}
    monkeypatch.setenv("PCONNECT_JOIN", "True")
    assert options() == {"hosts": ["alpha"], "join": True}
    monkeypatch.delenv("PCONNECT_JOIN")
    monkeypatch.setenv("PCONNECT_HOSTS", "zeta")
    assert options() == {"hosts": ["zeta"]}
    write("join = true\n")
    assert options() == {"hosts": ["zeta"]}
    monkeypatch.delenv("PCONNECT_HOSTS")
    assert options() == {"join": True}
    write('join = "a b:c"\n')
    with pytest.raises(ConfigurationError, match="line 1"):
        options()


def test_the_page_has_every_option_and_an_example_that_works(write: Callable[[str], None]) -> None:
    page = (Path(__file__).parents[2] / "doc/reference/configuration.md").read_text()
    listed = re.search(r"The keys are (.*?)\. A profile", page, re.DOTALL)
    assert listed
    parameters = inspect.signature(pconnect).parameters.keys() - {
        "profile",
        "recover",
        "resume",
        "take_over",
        "accept",
        "password",
    }
    assert set(re.findall(r"`(\w+)`", listed[1])) == parameters
    write(next(block.text for block in fenced("configuration.md", page) if block.kind == "toml"))
    assert options(profile="lab")["hosts"] == {"gamma": 8, "delta:12600": 2}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("timeout", "60", "timeout must be a non-negative number, not '60'"),
        ("timeout", float("nan"), "timeout must be a non-negative number, not nan"),
        ("timeout", -1, "timeout must be a non-negative number, not -1"),
        ("size", 1.5, "size must be a non-negative integer, not 1.5"),
        ("size", -5, "size must be a non-negative integer, not -5"),
        ("user", 5, "user must be a string, not 5"),
        ("password", b"secret", "password must be a string, not a value of another type"),
        ("password_file", 5, "password_file must be a string or a path, not 5"),
        ("use_tls", "no", "use_tls must be true or false, not 'no'"),
        ("required", "2", "required must be true or false or a non-negative integer, not '2'"),
        ("profile", ["lab"], r"profile must be a string, not \['lab'\]"),
    ],
)
def test_arguments_are_checked_as_well(name: str, value: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        options("host", **{name: value})


def test_arguments_may_be_of_numpy_and_paths(tmp_path: Path) -> None:
    given: dict[str, Any] = {"timeout": np.float32(2), "size": np.int64(3), "required": np.int8(2)}
    given["password_file"] = tmp_path
    assert options("host", **given) == {"hosts": "host"} | given
    assert options("host", timeout=float("inf"))["timeout"] == float("inf")


def test_a_mark_of_the_byte_order_is_ignored(folder: Path) -> None:
    folder.mkdir(parents=True)
    config_file().write_bytes(b"\xef\xbb\xbfhosts = 'alpha'")
    assert options() == {"hosts": ["alpha"]}
