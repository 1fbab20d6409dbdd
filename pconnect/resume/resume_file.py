"""The data that a client needs to resume its sessions: one private file; the password is needed in addition.

The file holds no key of a certificate authority: the client that resumes the sessions makes a new authority, and
announces it in its login. The file is therefore useless to anyone without the password.
"""

import base64
import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from pconnect.errors import ConfigurationError, CredentialError
from pconnect.link.host_names import Host
from pconnect.link.local_link import TOKEN_BYTES
from pconnect.protocol.frames import NETWORK_ID_BYTES, NETWORK_KEY_BYTES, Limits
from pconnect.session.login import LoginTerms
from srp_tools.private_files import read_private, write_private

_VERSION = 1
_MAX_BYTES = 2**24
_REMOVED = Host("(removed)", "", 0)  # marks a number that stays empty
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def path_of(resume: str | Path) -> Path:
    """Return the path of a resume file; a plain name stands for a file in the user's state folder.

    Raises `ConfigurationError` if it is neither a path nor a valid name.
    """
    if isinstance(resume, Path) or os.sep in resume:
        return Path(resume).expanduser()
    if _NAME.fullmatch(resume) is None:
        raise ConfigurationError(
            f"resume={resume!r} is not allowed: give a name of letters, digits, dots, dashes and underscores, or a path"
        )
    return platformdirs.user_state_path("pconnect", appauthor=False) / "resume" / resume


@dataclass(frozen=True)
class ResumeFile:
    """The contents of a resume file."""

    network_id: bytes
    network_key: bytes = field(repr=False)
    link_key: bytes | None = field(repr=False)
    limits: Limits
    peer_timeout: float
    hosts: tuple[Host, ...]  #: the host of each node, from 1, including removed nodes
    keys: Mapping[int, bytes]  #: the public key (DER) of each node
    servers: frozenset[str] = frozenset()  #: the ids of all present and former servers

    @classmethod
    def of(
        cls, terms: LoginTerms, hosts: Mapping[int, Host], count: int, servers: Iterable[str] = ()
    ) -> "ResumeFile":
        """Return the contents for a network; `hosts`: the host of each present node.

        `count`: of all nodes, including removed ones. `servers`: the ids of all present and former servers.
        """
        assert terms.authority is not None  # noqa: S101 - the network is encrypted
        keys = {node: key for node, key in terms.authority.public_keys.items() if node in hosts}
        return cls(
            terms.network_id,
            terms.network_key,
            terms.link_key,
            terms.limits,
            terms.peer_timeout,
            tuple(hosts.get(node, _REMOVED) for node in range(1, count + 1)),
            keys,
            frozenset(servers),
        )

    @property
    def removed(self) -> dict[int, str]:
        """The numbers that stay empty because their nodes were removed."""
        return {node: host.label for node, host in enumerate(self.hosts, 1) if host == _REMOVED}

    def write(self, path: Path) -> None:
        """Write a file of mode 0600. Raises `CredentialError` if it cannot be written, or would not be private."""
        told = {
            "version": _VERSION,
            "network": self.network_id.hex(),
            "network_key": self.network_key.hex(),
            "link_key": None if self.link_key is None else self.link_key.hex(),
            "limits": list(self.limits),
            "peer_timeout": self.peer_timeout,
            "hosts": [None if host == _REMOVED else [host.label, *host.ports_named] for host in self.hosts],
            "keys": {str(node): base64.b64encode(key).decode() for node, key in self.keys.items()},
            "servers": sorted(self.servers),
        }
        write_private(path, json.dumps(told) + "\n", others_may_list=True)


def _host(label: object, name: object, port: Any, data_port: Any = None) -> Host:
    return Host(str(label), str(name), int(port), None if data_port is None else int(data_port))


def read_file(path: Path) -> ResumeFile | None:
    """Return the contents of a file; ``None`` if it does not exist.

    Raises `ConfigurationError` if it is not a resume file, and `CredentialError` if other users can read it.
    """
    if not path.exists():
        return None
    text = read_private(path, _MAX_BYTES)
    try:
        told: dict[str, Any] = json.loads(text)
        if (version := told["version"]) != _VERSION:
            raise ValueError(f"its format has version {version!r}, but this software reads {_VERSION}")
        link_key, (most, most_waiting) = told["link_key"], told["limits"]
        found = ResumeFile(
            bytes.fromhex(told["network"]),
            bytes.fromhex(told["network_key"]),
            None if link_key is None else bytes.fromhex(link_key),
            Limits(int(most), int(most_waiting)),
            float(told["peer_timeout"]),
            tuple(_REMOVED if host is None else _host(*host) for host in told["hosts"]),
            {int(node): base64.b64decode(key, validate=True) for node, key in told["keys"].items()},
            frozenset(map(str, told.get("servers", []))),
        )
        sizes = len(found.network_id), len(found.network_key), len(found.link_key or bytes(TOKEN_BYTES))
        if sizes != (NETWORK_ID_BYTES, NETWORK_KEY_BYTES, TOKEN_BYTES):
            raise ValueError("a key has the wrong length")
        if not (0 < found.peer_timeout < math.inf and min(found.limits) > 0):
            raise ValueError("a limit is not a positive number")
        if not found.hosts or found.keys.keys() ^ found.removed.keys() != set(range(1, len(found.hosts) + 1)):
            raise ValueError("a node has no key")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigurationError(
            f"resume: {path} was not written by pconnect(resume=...) ({error}): give another name, or remove the file"
        ) from error
    return found


def remove_file(path: Path, network_id: bytes) -> None:
    """Remove the file of a closed network, unless it belongs to another network by now."""
    with contextlib.suppress(OSError, ConfigurationError, CredentialError):
        saved = read_file(path)
        if saved is not None and saved.network_id == network_id:
            path.unlink()
