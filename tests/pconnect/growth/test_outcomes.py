"""The outcomes of logins, in the same form for all callers that log in to many servers."""

import pytest

from pconnect.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ProtocolError,
    ServerRefusedError,
)
from pconnect.growth.outcomes import Outcomes, log_in_by_place, refusal, sort_outcomes, steps_for_others
from pconnect.link.host_names import parse_hosts
from pconnect.protocol.frames import Limits
from pconnect.session.login import make_terms
from srp_tools.credentials import Credentials
from srp_tools.steps import deadline_after, run_all

TERMS = make_terms(Credentials("alice", "correct horse"), Limits(), 5.0)


def test_one_login_fails_for_all_nodes_of_a_server() -> None:
    outcomes: Outcomes = {}
    hosts = dict(enumerate(parse_hosts(["127.0.0.1:1*2", "127.0.0.1:2"]), 1))
    deadline = deadline_after(20.0)
    log_in_by_place(hosts, TERMS, deadline, lambda steps: run_all(steps, deadline, outcomes), outcomes)
    assert outcomes[1] is outcomes[2] is not outcomes[3] and "no server is listening" in str(outcomes[1])
    assert sort_outcomes(outcomes) == ({}, outcomes)


def test_others_share_the_reason_of_the_first() -> None:
    why = ProtocolError("it speaks version 9")
    outcomes: Outcomes = {1: why}
    assert steps_for_others([[1, 3], []][:1], TERMS, outcomes) == {}
    assert outcomes == {1: why, 3: why}


def test_another_version_is_a_reason_of_a_host_and_a_fault_of_the_program_is_none() -> None:
    old, off = ProtocolError("it speaks version 9"), ConnectionRefusedError("off")
    assert list(sort_outcomes({2: off, 1: old})[1].items()) == [(1, old), (2, off)]
    for fault in (ZeroDivisionError(), ConfigurationError("no such option")):
        with pytest.raises(type(fault)):
            sort_outcomes({1: old, 2: fault})


def test_the_error_is_of_the_kind_of_its_reasons() -> None:
    for kind in (AuthenticationError, ServerRefusedError):
        assert isinstance(refusal({"a": kind("no"), "b": kind("no")}), kind)
    mixed = refusal({"a": AuthenticationError("no"), "b": ConnectionRefusedError("off")})
    assert isinstance(mixed, ConnectError)
    assert not isinstance(mixed, AuthenticationError)
