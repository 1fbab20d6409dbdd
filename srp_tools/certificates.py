"""The certificates of one network.

The client is the certificate authority of its network for the lifetime of the network. Each node generates its own
private key, which never leaves the node; the client signs the public key inside the SRP login. A certificate names the
network and the node in a URI of its subject's alternative names, ``pserver:<network id>/<node>``. A node that accepts
a connection checks both.

The processes of a Dask cluster do their own TLS, with certificates from the same authority. Those certificates name a
*role*, ``pserver:<network id>/dask/<role>``, so a Dask process cannot pose as a node.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from srp_tools.errors import AuthenticationError

# Lifetime of a node's certificate. The authority's key dies with the client, so this limits only how long a leaked copy
# of a node's key can be used. The client renews the certificates while the network is open.
LIFETIME = datetime.timedelta(days=30)
# Renew after this fraction of the lifetime. The rest leaves time for networks in rare use and for clocks that differ.
_RENEW_AFTER = 1 / 3
# The date that RFC 5280, section 4.1.2.5, defines for certificates without an end. The authority disappears with its
# client, and the processes of a Dask cluster, which cannot replace a certificate while they run, end with the network.
_NO_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
CLOCK_SKEW = datetime.timedelta(days=1)  # the clocks of one user's machines rarely differ by more


def renewal_seconds() -> float:
    """Return the number of seconds after which a certificate should be renewed."""
    return LIFETIME.total_seconds() * _RENEW_AFTER


def node_uri(network_id: bytes, node: int) -> str:
    """Return the URI that identifies a node in its certificate.

    Examples
    --------
    >>> node_uri(bytes(16), 2)
    'pserver:00000000000000000000000000000000/2'
    """
    return f"pserver:{network_id.hex()}/{node}"


def role_uri(network_id: bytes, role: str) -> str:
    """Return the URI that identifies a Dask process in its certificate.

    Examples
    --------
    >>> role_uri(bytes(16), "scheduler")
    'pserver:00000000000000000000000000000000/dask/scheduler'
    """
    return f"pserver:{network_id.hex()}/dask/{role}"


@dataclass(frozen=True)
class PemIdentity:
    """The key and certificates of a process that does its own TLS, as PEM text."""

    key: str = field(repr=False)  #: its private key (PKCS #8)
    #: Its certificate, and the certificate of the network's authority.
    certificate: str = field(repr=False)
    authority: str = field(repr=False)


@dataclass(frozen=True)
class Identity:
    """The key and certificates with which a node proves its identity and checks the other nodes of its network."""

    network_id: bytes  #: 16 random bytes
    node: int  #: number of this node in the network
    key_pem: bytes = field(repr=False)  #: its private key (PKCS #8, PEM)
    #: Its certificate, and the certificate of the network's authority (DER).
    certificate: bytes = field(repr=False)
    authority: bytes = field(repr=False)


class NodeKey:
    """A fresh P-256 key of a node, before the network's authority has signed it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def public_bytes(self) -> bytes:
        """Return the public key (SubjectPublicKeyInfo, DER)."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def identity(self, network_id: bytes, node: int, certificate: bytes, authority: bytes) -> Identity:
        """Return the node's identity, with the certificate that the authority issued for this key.

        Raises `AuthenticationError` if `certificate` is not a certificate or belongs to another key.
        """
        self._check(certificate)
        return Identity(network_id, node, self._pem(), certificate, authority)

    def pem_identity(self, certificate: bytes, authority: bytes) -> PemIdentity:
        """Return the identity of a process that does its own TLS, as PEM text.

        Raises `AuthenticationError` if an argument is not a certificate, or if `certificate` belongs to another key.
        """
        own = _text_of(self._check(certificate))
        return PemIdentity(self._pem().decode(), own, _text_of(_load(authority)))

    def _check(self, certificate: bytes) -> x509.Certificate:
        loaded = _load(certificate)
        if loaded.public_key() != self._key.public_key():
            raise AuthenticationError("the client signed a key that is not this node's key")
        return loaded

    def _pem(self) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def _load(certificate: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise AuthenticationError("the client sent invalid data instead of a certificate") from error


def _text_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class NetworkAuthority:
    """The certificate authority of one network. It exists only in the client's memory."""

    def __init__(self, network_id: bytes) -> None:
        self.network_id = network_id
        self._public_keys: dict[int, bytes] = {}  # of the nodes, for renewals
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"pserver {network_id.hex()}")])
        usage = x509.KeyUsage(
            key_cert_sign=True,
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            self._builder(self._name, self._key.public_key(), _NO_END)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(self._key_identifier(), critical=False)
        )
        self.certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def sign(self, public_key: bytes, node: int) -> bytes:
        """Return a certificate (DER) for the public key of a node.

        Raises `AuthenticationError` if `public_key` is not a P-256 key.
        """
        end = datetime.datetime.now(datetime.UTC) + LIFETIME
        certificate = self._sign(public_key, f"node {node}", node_uri(self.network_id, node), end)
        self._public_keys[node] = public_key
        return certificate

    @property
    def public_keys(self) -> Mapping[int, bytes]:
        """The public key (DER) most recently signed for each node."""
        return self._public_keys

    def renew(self, node: int) -> bytes:
        """Return a new certificate (DER) for a node whose key has been signed before."""
        return self.sign(self._public_keys[node], node)

    def sign_role(self, public_key: bytes, role: str) -> bytes:
        """Return a certificate (DER) for the public key of a Dask process. Raises the same errors as `sign`."""
        return self._sign(public_key, f"dask {role}", role_uri(self.network_id, role), _NO_END)

    def _sign(self, public_key: bytes, common_name: str, name_uri: str, end: datetime.datetime) -> bytes:
        try:
            key = serialization.load_der_public_key(public_key)
        except ValueError as error:
            raise AuthenticationError("the server sent invalid data instead of a public key") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise AuthenticationError("the server sent a public key that is not a P-256 key")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        uri = x509.UniformResourceIdentifier(name_uri)
        signer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._key_identifier())
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            self._builder(name, key, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(signer, critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def own_identity(self) -> Identity:
        """Return the identity of node 0, the client itself."""
        key = NodeKey()
        return key.identity(self.network_id, 0, self.sign(key.public_bytes(), 0), self.certificate)

    def own_role(self, role: str) -> PemIdentity:
        """Return the identity of a Dask process that belongs to the client."""
        key = NodeKey()
        return key.pem_identity(self.sign_role(key.public_bytes(), role), self.certificate)

    def _key_identifier(self) -> x509.SubjectKeyIdentifier:
        """Return the identifier of the authority's key. RFC 5280, section 4.2.1, requires it in every certificate."""
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())

    def _builder(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, end: datetime.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.datetime.now(datetime.UTC) - CLOCK_SKEW)
            .not_valid_after(end)
        )
