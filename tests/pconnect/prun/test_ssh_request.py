"""The nodes of a request, and the environment of its program."""

import pytest

from pconnect.errors import ConfigurationError
from pconnect.prun.ssh_request import SshRequest, Terminal, fits

MEMBERS = {1: "alpha", 2: "beta:4000", 3: "beta:5000", 4: "gamma.example.org", 5: "[::1]:4001", 6: "10.0.0.7"}


@pytest.mark.parametrize(
    ("host", "port", "nodes"),
    [
        ("alpha", None, {1}),
        ("ALPHA.", 22, {1}),
        ("alpha.example.org", None, {1}),
        ("beta", None, {2, 3}),
        ("beta", 5000, {3}),
        ("beta", 22, {2, 3}),
        ("gamma", None, {4}),
        ("localhost", None, {5}),
        ("127.0.0.1", 4001, {5}),
        ("10.0.0.7", None, {6}),
    ],
)
def test_nodes_by_name(host: str, port: int | None, nodes: set[int]) -> None:
    assert SshRequest(host=host, port=port).nodes(MEMBERS) == nodes


@pytest.mark.parametrize("host", ["delta", "gamma.other.org", "10", "10.0.0.8", "127.0.0.2", ""])
def test_an_unknown_host_names_the_known_ones(host: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"^{host}: no server .* the servers are: 10.0.0.7, .*alpha, beta:4000"
    ):
        SshRequest(host=host).nodes(MEMBERS)


def test_a_short_name_of_several_servers_means_none() -> None:
    members = {1: "alpha.one.org", 2: "alpha.two.org", 3: "alpha.one.org:4000"}
    assert SshRequest(host="alpha.one.org").nodes(members) == {1, 3}
    with pytest.raises(
        ConfigurationError, match=r"alpha: this matches several servers \(alpha.one.org, alpha.two.org\)"
    ):
        SshRequest(host="alpha").nodes(members)


def test_the_name_itself_counts_before_other_names_of_this_machine() -> None:
    members = {1: "localhost:4000", 2: "127.0.0.1:4001"}
    assert SshRequest(host="127.0.0.1").nodes(members) == {2}
    assert SshRequest(host="::1").nodes(members) == {1, 2}


@pytest.mark.parametrize(
    ("terminal", "command", "is_terminal", "wanted"),
    [
        (Terminal.IF_NO_COMMAND, b"", True, True),
        (Terminal.IF_NO_COMMAND, b"", False, False),
        (Terminal.IF_NO_COMMAND, b"ls", True, False),
        (Terminal.IF_OURS, b"ls", True, True),
        (Terminal.IF_OURS, b"ls", False, False),
        (Terminal.ALWAYS, b"ls", False, True),
        (Terminal.NO, b"", True, False),
    ],
)
def test_who_gets_a_terminal(terminal: Terminal, command: bytes, is_terminal: bool, wanted: bool) -> None:
    request = SshRequest(terminal=terminal, command=command)
    assert request.wants_terminal(stdin_is_terminal=is_terminal) == wanted
    without = SshRequest(terminal=terminal, command=command, stdin=False)
    assert without.wants_terminal(stdin_is_terminal=is_terminal) == (terminal is Terminal.ALWAYS)


def test_only_what_is_asked_for_is_sent() -> None:
    here = {b"TERM": b"vt100", b"LC_ALL": b"C", b"LANG": b"C", b"SECRET": b"x", b"ODD\xff": b"1"}
    assert SshRequest().environment(here, on_terminal=False) == {}
    assert SshRequest().environment(here, on_terminal=True) == {b"TERM": b"vt100"}
    request = SshRequest(sent=("LC_*", "LANG", "NONE"), variables={b"LANG": b"de", b"A": b"1"})
    assert request.environment(here, on_terminal=False) == {b"LC_ALL": b"C", b"LANG": b"de", b"A": b"1"}


def test_the_account_is_asked_for_if_it_is_not_the_networks_user() -> None:
    assert SshRequest().account("alice") == ""
    assert SshRequest(user="alice").account("alice") == ""
    assert SshRequest(user="root").account("alice") == "root"


def test_the_configuration_is_shown_as_by_ssh() -> None:
    text = SshRequest(host="alpha", user="bob", port=4000).configuration()
    assert text.splitlines() == ["host alpha", "hostname alpha", "requesttty auto", "user bob", "port 4000"]


def test_patterns_are_those_of_ssh() -> None:
    cases = [("LC_ALL", "LC_*"), ("A.B", "A.?"), ("A", "a"), ("AB", "A"), ("[", "[")]
    assert [fits(*case) for case in cases] == [True, True, False, False, True]
