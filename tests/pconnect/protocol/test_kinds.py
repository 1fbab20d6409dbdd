"""Kinds of messages and the ends that accept them."""

from pconnect.protocol.kinds import ACCEPTS, Kind, Role


def test_numbers_on_the_wire_do_not_change() -> None:
    names = (
        "HELLO VALUE SETUP MESHED COMMAND DONE INTERRUPT KILL OUTPUT DIED QUERY FACTS CLOSE CLOSED STOPPING "
        "COLLECTIVE LEFT CANCEL FRONT_END"
    )
    later = "RESTART PROBE STATE TAKEN POOL WANT WORKER YIELD RUNNING ENDED STOP FUNCTION JOB DROP RETIRE RESULT REPORT"
    numbers = dict(
        enumerate(
            f"{names} {later} SHARED KEEP DETACH LEAVE RECOVER TAKE RECALL CALL TIMED REFUSED RENEW PRINTED STREAM "
            "CREDIT SIGNAL BACK RECEIVED KNOWN LIMIT".split(),
            1,
        )
    ) | {60: "NEIGHBOURS", 64: "MEMBERS", 68: "UNREACHED", 69: "ROUTE", 70: "RELAY", 72: "STATISTICS"}
    assert {kind.value: kind.name for kind in Kind} == numbers


def test_only_nodes_send_values_and_only_clients_commands() -> None:
    nodes = {Role.NODE, Role.CLIENT_DATA, Role.ENGINE_DATA}
    assert {role for role in Role if Kind.VALUE in ACCEPTS[role]} == nodes
    assert [role for role in Role if Kind.COMMAND in ACCEPTS[role]] == [Role.ENGINE_DATA]
    assert [role for role in Role if Kind.CALL in ACCEPTS[role]] == [Role.ENGINE_DATA]
    assert [role for role in Role if Kind.HELLO in ACCEPTS[role]] == []


def test_every_kind_but_the_first_word_has_an_end_that_accepts_it() -> None:
    assert [kind for kind in Kind if not kind.accepted_by] == [Kind.HELLO]
    assert {(role, kind) for role in Role for kind in ACCEPTS[role]} == {
        (role, kind) for kind in Kind for role in kind.accepted_by
    }
