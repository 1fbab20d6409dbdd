import socket
from typing import Any

import numpy as np
import pytest

from pconnect.errors import ConfigurationError
from pconnect.link.host_names import Host, parse_hosts, resolve
from srp_tools.steps import deadline_after, run


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("a", [("a", "a", 12502)]),
        ("a:4000", [("a:4000", "a", 4000)]),
        (("a", 4000), [("a:4000", "a", 4000)]),
        ([("a", 1), "b:65535"], [("a:1", "a", 1), ("b:65535", "b", 65535)]),
        (("a", "b"), [("a", "a", 12502), ("b", "b", 12502)]),
        ("[::1]:4000", [("[::1]:4000", "::1", 4000)]),
        ("[::1]", [("[::1]", "::1", 12502)]),
        ("fe80::1", [("fe80::1", "fe80::1", 12502)]),
        ([], []),
        ({"a": 2, ("b", 4000): 1}, [("a", "a", 12502), ("a", "a", 12502), ("b:4000", "b", 4000)]),
        ({"a:1": np.int64(1)}, [("a:1", "a", 1)]),
        ({}, []),
        ("a*2", [("a", "a", 12502)] * 2),
        (["a:1*2", "b", "a"], [("a:1", "a", 1)] * 2 + [("b", "b", 12502), ("a", "a", 12502)]),
        ("[::1]:4000*1", [("[::1]:4000", "::1", 4000)]),
        ("fe80::1*2", [("fe80::1", "fe80::1", 12502)] * 2),
        ("a:7/8", [("a:7/8", "a", 7, 8)]),
        (["[::1]:7/8*2", ("a", 7, 9)], [("[::1]:7/8", "::1", 7, 8)] * 2 + [("a:7/9", "a", 7, 9)]),
        (("a", 7, 8), [("a:7/8", "a", 7, 8)]),
        ({"a:7/8": 1, ("a", 9, 8): 1}, [("a:7/8", "a", 7, 8), ("a:9/8", "a", 9, 8)]),
        ("unix:/run/a.logins", [("unix:/run/a.logins", "/run/a.logins", 0)]),
        (["unix:/a*2"], [("unix:/a", "/a", 0)] * 2),
        (("/a", 0), [("unix:/a", "/a", 0)]),
        (Host("local", "/a", 0), [("local", "/a", 0)]),
        (
            ["b", {"a": 2}, ("c", 7)],
            [("b", "b", 12502), ("a", "a", 12502), ("a", "a", 12502), ("c:7", "c", 7)],
        ),
    ],
)
def test_what_hosts_may_look_like(hosts: object, expected: list[tuple[Any, ...]]) -> None:
    assert parse_hosts(hosts) == [Host(*each) for each in expected]


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        (3, "hosts must be names"),
        ([3], "a host must be a name"),
        ("", "not the name of a host"),
        ("a b", "not the name of a host; give several as a list"),
        ("a:1 b:2", "give several as a list"),
        ("a * 2", "without spaces, as in"),
        ("a* 2", "without spaces, as in"),
        ("*", "without spaces, as in"),
        ("a:", "from 1 to 65535"),
        (("localhost", "12602"), "'12602' is not the name of a host; write a port as in 'alpha:12600'"),
        ("unix:a", "give the full path of the socket"),
        ("unix:/a/", "give the full path of the socket"),
        ("unix:/a\0", "give the full path of the socket"),
        (("/a", 1), "a Unix socket has the port 0"),
        (":4000", "not the name of a host"),
        ("a:0", "from 1 to 65535"),
        ("a:65536", "from 1 to 65535"),
        ("a:x", "from 1 to 65535"),
        (("a", -1), "from 1 to 65535"),
        ("[::1", "write an IPv6 address"),
        ("[::1]4000", "write an IPv6 address"),
        ({"a": 0}, "'a': the number of engines must be a whole number, 1 or more, not 0"),
        ({"a": True}, "1 or more, not True"),
        ({"a": "4"}, "1 or more, not '4'"),
        ({"a": 1.5}, "1 or more, not 1.5"),
        ({"a:x": 1}, "from 1 to 65535"),
        ({3: 1}, "a host must be a name"),
        ("a*0", r"'a\*0': the number of engines must be a whole number, 1 or more, not 0"),
        ("a*", "1 or more, not ''"),
        ("a*-1", "1 or more, not '-1'"),
        ("a*²", "1 or more, not '²'"),
        ("a*2:4000", r"not '2:4000'; write the port first, as in alpha:4000\*2"),
        ("*2", "not the name of a host"),
        ("a*1000000", "at most 10000, not 1000000"),
        ("a*" + "9" * 5000, "1 or more, not '9"),
        ({"a": 10**12}, "at most 10000"),
        ({"a*2": 3}, r"'a\*2': give the number of engines only once"),
        ([["a", "b"]], "a host must be a name"),
        ("a:7/", "'a:7/': the data port must be a number from 1 to 65535"),
        ("a:7/x", "the data port must be a number from 1 to 65535"),
        ("a:7/0", "the data port must be a number from 1 to 65535"),
        ("a:0/7", "the port must be a number from 1 to 65535"),
        ("a:7/8/9", "not a URL"),
        ("a/8", "not a URL"),
        (("a", 7, 0), "the data port must be a number"),
        (("a", 7, 8, 9), "a host must be a name"),
        ("u@a:7/8", r"pconnect\('a:7/8', user='u'\)"),
    ],
)
def test_what_they_may_not(hosts: object, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        parse_hosts(hosts)


def test_an_address_needs_no_look_up() -> None:
    steps = resolve("127.0.0.1", 7)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == [(socket.AF_INET, ("127.0.0.1", 7))]


def test_a_name_is_looked_up() -> None:
    found = run(resolve("localhost", 7), deadline_after(20))
    assert {address[:2] for _, address in found} <= {("127.0.0.1", 7), ("::1", 7)}
    assert found


def test_an_unknown_name() -> None:
    with pytest.raises(OSError, match=r"cannot resolve the name \(.*\): check it, or give an address"):
        run(resolve("no-such-host.invalid", 7), deadline_after(20))


def test_a_name_that_no_host_can_have() -> None:
    with pytest.raises(OSError, match="not the name of a host"):
        run(resolve("a" * 64 + ".invalid", 7), deadline_after(20))


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("alice@alpha", r"pconnect\('alpha', user='alice'\)"),
        ("alice@alpha:4000", r"pconnect\('alpha:4000', user='alice'\)"),
        ("tcp://alpha:4000", "not a URL"),
        ("alpha,beta", "as a list"),
        ("alpha,beta*4", "as a list"),
    ],
)
def test_the_forms_of_other_programs_are_refused_with_the_right_one(host: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_hosts([host])
