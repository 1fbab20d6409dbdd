import pytest

from pconnect.errors import ConnectionLostError
from pconnect.link.certificate_renewal import CertificateRenewal
from pconnect.link.connection import Connection
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from srp_tools.certificates import NetworkAuthority, NodeKey, renewal_seconds
from srp_tools.tls import TlsContexts
from tests.support.links import channels


def test_new_certificates_go_to_all_that_are_there_when_it_is_time() -> None:
    authority = NetworkAuthority(bytes(16))
    tls = TlsContexts(authority.own_identity())
    heard: dict[int, list[Message]] = {}
    near: dict[int, Connection] = {}
    far = []
    for node in (1, 2):
        authority.sign(NodeKey().public_bytes(), node)
        left, right = channels()
        near[node] = Connection(node, "host", left, role=Role.CLIENT)
        far.append(Connection(0, "client", right, role=Role.SUPERVISOR))
        far[-1].on_message = heard.setdefault(node, []).append
    near[3] = Connection(3, "host", None, awaited=True)
    near[3].lose(ConnectionLostError("gone"))
    now, numbers = [1000.0], iter([5, 6])
    renewal = CertificateRenewal(authority, tls, lambda: near, lambda: next(numbers), lambda: now[0])

    def look() -> list[list[Message]]:
        renewal.look()
        for connection in (*near.values(), *far):
            connection.flush()
            if connection.error is None:
                connection.fill()
        told = [list(each) for each in heard.values()]
        for each in heard.values():
            each.clear()
        return told

    own = [tls.identity.certificate]
    for number in (5, 6):
        now[0] += renewal_seconds() - 1
        assert (look(), tls.identity.certificate) == ([[], []], own[-1])
        now[0] += 2
        told = look()
        assert [[(m.kind, m.tag) for m in each] for each in told] == [[(Kind.RENEW, number)]] * 2
        assert len({bytes(m.value) for each in told for m in each}) == 2
        assert renewal.number == number
        assert tls.identity.certificate not in own
        own.append(tls.identity.certificate)
    for connection in (*near.values(), *far):
        connection.close()


def test_it_is_time_well_before_the_end() -> None:
    days = renewal_seconds() / 86400
    assert days == pytest.approx(10)
