"""The authority of a network and the certificates it issues."""

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from srp_tools.certificates import CLOCK_SKEW, LIFETIME, NetworkAuthority, NodeKey, PemIdentity
from srp_tools.errors import AuthenticationError

NETWORK_ID = bytes(range(16))
DER, SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo


@pytest.fixture(scope="module")
def authority() -> NetworkAuthority:
    return NetworkAuthority(NETWORK_ID)


def test_a_certificate_names_network_and_node(authority: NetworkAuthority) -> None:
    key = NodeKey()
    certificate = x509.load_der_x509_certificate(authority.sign(key.public_bytes(), 7))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "pserver:000102030405060708090a0b0c0d0e0f/7"
    ]
    assert certificate.public_key().public_bytes(DER, SPKI) == key.public_bytes()


def test_the_authority_signed_it(authority: NetworkAuthority) -> None:
    own = x509.load_der_x509_certificate(authority.certificate)
    node = x509.load_der_x509_certificate(authority.sign(NodeKey().public_bytes(), 1))
    node.verify_directly_issued_by(own)
    own.verify_directly_issued_by(own)


def test_a_node_cannot_sign_for_others(authority: NetworkAuthority) -> None:
    node = x509.load_der_x509_certificate(authority.sign(NodeKey().public_bytes(), 1))
    own = x509.load_der_x509_certificate(authority.certificate)
    assert not node.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    constraints = own.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)


def test_a_node_may_accept_and_connect(authority: NetworkAuthority) -> None:
    node = x509.load_der_x509_certificate(authority.sign(NodeKey().public_bytes(), 1))
    purposes = node.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_lifetime_allows_for_clocks_that_differ(authority: NetworkAuthority) -> None:
    now = datetime.datetime.now(datetime.UTC)
    certificate = x509.load_der_x509_certificate(authority.sign(NodeKey().public_bytes(), 1))
    minute = datetime.timedelta(minutes=1)
    assert abs(now - CLOCK_SKEW - certificate.not_valid_before_utc) < minute
    assert abs(now + LIFETIME - certificate.not_valid_after_utc) < minute


def test_what_cannot_be_renewed_has_no_end(authority: NetworkAuthority) -> None:
    made = [authority.certificate, authority.sign_role(NodeKey().public_bytes(), "scheduler")]
    assert {x509.load_der_x509_certificate(each).not_valid_after_utc.year for each in made} == {9999}


def test_a_renewed_certificate_is_for_the_same_key_and_node(authority: NetworkAuthority) -> None:
    key = NodeKey()
    first = x509.load_der_x509_certificate(authority.sign(key.public_bytes(), 8))
    again = x509.load_der_x509_certificate(authority.renew(8))
    assert again.serial_number != first.serial_number
    assert again.public_key() == first.public_key()
    assert again.subject == first.subject
    assert again.not_valid_after_utc >= first.not_valid_after_utc


def test_two_networks_share_nothing() -> None:
    one, other = NetworkAuthority(NETWORK_ID), NetworkAuthority(NETWORK_ID)
    node = x509.load_der_x509_certificate(one.sign(NodeKey().public_bytes(), 1))
    with pytest.raises(InvalidSignature):
        node.verify_directly_issued_by(x509.load_der_x509_certificate(other.certificate))


def other_keys() -> dict[str, bytes]:
    curve = ec.generate_private_key(ec.SECP384R1()).public_key()
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    return {"P-384": curve.public_bytes(DER, SPKI), "RSA": rsa_key.public_bytes(DER, SPKI)}


@pytest.mark.parametrize("key", [pytest.param(key, id=name) for name, key in other_keys().items()])
def test_other_kinds_of_keys_are_refused(authority: NetworkAuthority, key: bytes) -> None:
    with pytest.raises(AuthenticationError, match="not a P-256 key"):
        authority.sign(key, 1)


@pytest.mark.parametrize(
    "garbage", [b"", b"garbage", NodeKey().public_bytes()[:-1]], ids=["nothing", "garbage", "cut off"]
)
def test_invalid_keys_are_refused(authority: NetworkAuthority, garbage: bytes) -> None:
    with pytest.raises(AuthenticationError, match="instead of a public key"):
        authority.sign(garbage, 1)


def test_a_node_keeps_its_key_and_certificate(authority: NetworkAuthority) -> None:
    key = NodeKey()
    certificate = authority.sign(key.public_bytes(), 3)
    identity = key.identity(NETWORK_ID, 3, certificate, authority.certificate)
    private = serialization.load_pem_private_key(identity.key_pem, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.public_key().public_bytes(DER, SPKI) == key.public_bytes()
    assert (identity.network_id, identity.node) == (NETWORK_ID, 3)
    assert (identity.certificate, identity.authority) == (certificate, authority.certificate)


def test_a_certificate_for_another_key_is_refused(authority: NetworkAuthority) -> None:
    certificate = authority.sign(NodeKey().public_bytes(), 1)
    with pytest.raises(AuthenticationError, match="signed a key that is not"):
        NodeKey().identity(NETWORK_ID, 1, certificate, authority.certificate)


def test_invalid_certificates_are_refused(authority: NetworkAuthority) -> None:
    with pytest.raises(AuthenticationError, match="instead of a certificate"):
        NodeKey().identity(NETWORK_ID, 1, b"garbage", authority.certificate)


def test_the_client_is_node_0(authority: NetworkAuthority) -> None:
    identity = authority.own_identity()
    assert identity.node == 0
    assert b"pserver:000102030405060708090a0b0c0d0e0f/0" in identity.certificate


def test_no_key_is_shown(authority: NetworkAuthority) -> None:
    shown = repr(authority.own_identity())
    assert "KEY" not in shown and "key" not in shown


def test_a_role_is_not_a_node(authority: NetworkAuthority) -> None:
    text = authority.own_role("worker-1").certificate
    certificate = x509.load_pem_x509_certificate(text.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "pserver:000102030405060708090a0b0c0d0e0f/dask/worker-1"
    ]


def context(identity: PemIdentity, folder: Path, *, server_side: bool) -> ssl.SSLContext:
    """Return a context as strict as the default context of newer Python versions."""
    file = folder / f"{server_side}.pem"
    file.write_text(identity.certificate + identity.key)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(cadata=identity.authority)
    made.load_cert_chain(file)
    return made


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Do a handshake between two contexts in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_roles_accept_each_other_and_nobody_of_another_network(
    authority: NetworkAuthority, tmp_path: Path
) -> None:
    server = context(authority.own_role("scheduler"), tmp_path, server_side=True)
    shake_hands(context(authority.own_role("client"), tmp_path, server_side=False), server)
    other = NetworkAuthority(NETWORK_ID).own_role("client")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context(other, tmp_path, server_side=False), server)


def test_a_process_takes_no_certificate_for_another_key(authority: NetworkAuthority) -> None:
    key = NodeKey()
    with pytest.raises(AuthenticationError, match="signed a key that is not"):
        key.pem_identity(authority.sign_role(NodeKey().public_bytes(), "scheduler"), authority.certificate)
    with pytest.raises(AuthenticationError, match="instead of a certificate"):
        key.pem_identity(authority.sign_role(key.public_bytes(), "scheduler"), b"nonsense")
