"""The wanted state of each host, derived from the options of the command."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pserver.admin.options import start_options
from pserver.config.server_config import ServerConfig
from pserver.deploy.ssh import Target
from pserver.deploy.wheel import Wheel, make_wheel
from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.private_files import read_private_bytes, server_file
from srp_tools.verifier_file import VerifierFile

_MAX_FILE_BYTES = 16 * 2**20  # limit for the users' file and its companions
_DIGITS = 16  # length of a key


def parse_targets(hosts: Sequence[str], pythons: Sequence[str], setups: Sequence[str]) -> list[Target]:
    """Return the hosts with their options; each option applies to all hosts, or to one as ``HOST=VALUE``.

    Raises `ConfigurationError` if ssh cannot accept a host's name.

    Examples
    --------
    >>> parse_targets(["alpha", "beta"], ["python3.12", "beta=~/py/bin/python"], [])[1]
    Target(host='beta', python='~/py/bin/python', setup=None)
    """
    for host in hosts:
        if not host or host.startswith("-") or any(each.isspace() for each in host):
            raise ConfigurationError(f"{host!r} is not the name of a host: give it as you give it to ssh")
    return [
        Target(host, _of(host, hosts, pythons), _of(host, hosts, setups)) for host in dict.fromkeys(hosts)
    ]


def _of(host: str, hosts: Sequence[str], values: Sequence[str]) -> str | None:
    """Return the value for a host: the last one for this host alone, else the last one for all hosts."""
    for_all = [value for value in values if value.partition("=")[0] not in hosts]
    for_it = [value.partition("=")[2] for value in values if value.partition("=")[0] == host and "=" in value]
    return next(iter([*for_it[::-1], *for_all[::-1]]), None)


@dataclass(frozen=True)
class Plan:
    """The wanted state of each host."""

    name: str  #: of the server
    wheel: Wheel
    packages: Sequence[str]  #: in addition to this one
    wheels: Path | None  #: a folder of wheels for all packages, for hosts without internet access
    options: Sequence[
        str
    ]  #: of ``pserver start``; ``{place}`` stands for the deployment's folder on the host
    verifiers: dict[str, bytes]  #: the servers' login files, by file name
    force: bool

    def record(self, python: str, version: str) -> dict[str, Any]:
        """Return the record of a finished deployment; equal contents give equal records."""
        key = hashlib.sha256(
            "\0".join([self.wheel.digest(), *sorted(self.packages), python, version]).encode()
        )
        users = hashlib.sha256(repr(sorted(self.verifiers.items())).encode())
        return {
            "environment": f"env-{key.hexdigest()[:_DIGITS]}",
            "options": list(self.options),
            "users": users.hexdigest()[:_DIGITS],
        }

    def files(self, *, with_packages: bool) -> list[tuple[str, Path | bytes]]:
        """Return the names and contents of the files to send."""
        found: list[tuple[str, Path | bytes]] = [
            (f"server/{name}", data) for name, data in self.verifiers.items()
        ]
        if with_packages:
            found.append((self.wheel.name, self.wheel.data))
            if self.wheels is not None:
                found += [
                    (f"wheels/{path.name}", path) for path in sorted(self.wheels.iterdir()) if path.is_file()
                ]
        return found


def make_plan(config: ServerConfig, packages: Sequence[str], wheels: Path | None, *, force: bool) -> Plan:
    """Return the plan for a configuration; its users' file is on this machine, its other paths are on the hosts.

    Raises `CredentialError` if the users' file is invalid, `ConfigurationError` if the folder of wheels does not exist.
    """
    if wheels is not None and not wheels.is_dir():
        raise ConfigurationError(f"--wheels {wheels}: there is no such folder")
    settings = {name: value for name, value in vars(config).items() if name != "auth_file"}
    if config.log_file is None:
        settings["log_file"] = "{place}/log"
    if config.use_tls:
        settings["auth_file"] = "{place}/server/tpasswd"
    return Plan(
        name=config.name,
        wheel=make_wheel(),
        packages=tuple(packages),
        wheels=wheels,
        options=start_options(ServerConfig(**settings)),
        verifiers=_verifiers(Path(config.auth_file or server_file())) if config.use_tls else {},
        force=force,
    )


def _verifiers(path: Path) -> dict[str, bytes]:
    """Return the files that a server needs. Create the secret for unknown users if needed: all servers share it."""
    file = VerifierFile(path)
    if not file.users():
        raise CredentialError(f"{path} has no users; create them with: generate-srp-data USER")
    file.lookup("")
    # On the hosts the files have the default names, whatever their names are here.
    files = {f"tpasswd{suffix}": path.with_name(f"{path.name}{suffix}") for suffix in ("", ".conf", ".seed")}
    member = path.with_name("member")
    files |= {"member": member} if member.exists() else {}  # for servers that join others
    return {name: read_private_bytes(file, _MAX_FILE_BYTES) for name, file in files.items()}
