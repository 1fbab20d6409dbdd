import logging
import re
import shlex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pserver.system import audit

PEER = "192.0.2.1 port 51234"


def test_lines_have_a_fixed_form(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pserver.audit")
    audit.login(PEER, "alice", 4711, 1, "0f")
    audit.failed_login(PEER, "alice", audit.REFUSED)
    audit.refused(PEER, None, "too many connections")
    audit.refused(PEER, "bob", "busy")
    audit.session_end(
        PEER, "alice", 4711, usage=[5, 0, 8120, 911], seconds=12.34, how="the network was closed"
    )
    assert caplog.messages == [
        f'audit login from {PEER} user="alice" session=4711 node=1 network=0f',
        f'audit failed-login from {PEER} user="alice" reason="unknown user or wrong password"',
        f'audit refused from {PEER} reason="too many connections"',
        f'audit refused from {PEER} user="bob" reason="busy"',
        f'audit session-end from {PEER} user="alice" session=4711 commands=5 jobs=0 received=8120 sent=911 '
        'seconds=12.3 how="the network was closed"',
    ]
    assert {record.name for record in caplog.records} == {"pserver.audit"}


def test_a_reason_is_whole_up_to_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    reason = (
        f"the file {'/folder' * 20}/tpasswd is open to others (mode 0644), fix it with: chmod 600 tpasswd"
    )
    audit.failed_login(PEER, "alice", reason)
    audit.failed_login(PEER, "alice", "x" * 10_000)
    whole, cut = caplog.messages
    assert whole.endswith(f'reason="{reason}"')
    assert len(cut) < 600


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text())
def test_no_name_leaves_its_quotes(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    with caplog.at_level(logging.INFO, "pserver.audit"):
        audit.failed_login(PEER, name, audit.REFUSED)
    (line,) = caplog.messages
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 1400
    quoted = r'"(?:[^"\\]|\\.)*"'
    assert re.fullmatch(rf"audit failed-login from {PEER} user={quoted} reason={quoted}", line)
    assert len(shlex.split(line)) == 8
