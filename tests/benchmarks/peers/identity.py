"""Certificates for systems that read them from files."""

import secrets
import ssl
from pathlib import Path

from srp_tools.certificates import NetworkAuthority, NodeKey


def make_identity(folder: Path) -> dict[str, str]:
    """Write a key, its certificate and the authority's certificate into a folder of mode 0700; return the paths."""
    authority, key = NetworkAuthority(secrets.token_bytes(16)), NodeKey()
    certificate = authority.sign(key.public_bytes(), 1)
    identity = key.identity(authority.network_id, 1, certificate, authority.certificate)
    contents = {
        "keyfile": identity.key_pem,
        "certfile": ssl.DER_cert_to_PEM_cert(identity.certificate).encode(),
        "ca_certs": ssl.DER_cert_to_PEM_cert(identity.authority).encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in contents}
