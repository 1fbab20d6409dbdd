"""Deploy to hosts in parallel: bring each host up to date, then check connections from the client and between hosts.

A host that fails does not delay the others. All errors are reported at the end, in the order of the hosts.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pconnect.link.host_names import DEFAULT_CMD_PORT
from pserver.deploy.plan import Plan
from pserver.deploy.ssh import DeployError, Ssh, Target
from srp_tools.errors import ParallelError

_AT_ONCE = 32  # ssh calls at the same time
_LOOK_SECONDS = 60.0  # on a busy network file system, starting Python may take several seconds
_REACH_SECONDS = 10.0
T = TypeVar("T")


@dataclass
class Deployed:
    """A host with a running server."""

    target: Target
    address: str  #: the name or address that ssh connects to
    cmd_port: int
    data_port: int
    machine: str  #: its host name
    addresses: list[str] = field(default_factory=list)  #: its own addresses, without loopback

    @property
    def name(self) -> str:
        """The name of the host for `pconnect`."""
        if self.cmd_port == DEFAULT_CMD_PORT:
            return self.address
        return (
            f"[{self.address}]:{self.cmd_port}" if ":" in self.address else f"{self.address}:{self.cmd_port}"
        )


@dataclass
class Outcome:
    """The outcome for all hosts."""

    deployed: list[Deployed] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)  #: the names of removed servers for `pconnect`
    errors: dict[str, list[str]] = field(default_factory=dict)  #: by host, in the order of the hosts


class Deployment:
    """Calls all hosts in parallel. `say` gets a host and an event; `timeout`: seconds for an installation."""

    def __init__(
        self, ssh: Ssh, targets: Sequence[Target], say: Callable[[str, str], None], timeout: float
    ) -> None:
        self._ssh = ssh
        self._targets = targets
        self._say = say
        self._timeout = timeout

    def deploy(self, plan: Plan) -> Outcome:
        """Run a server on each host, and check whether all can reach each other."""
        found = self._at_all(lambda target: self._deploy_to(target, plan))
        outcome = _outcome(found)
        for host, reasons in self.unreached(outcome.deployed).items():
            outcome.errors.setdefault(host, []).extend(reasons)
        order = [target.host for target in self._targets]
        outcome.errors = {host: outcome.errors[host] for host in order if host in outcome.errors}
        return outcome

    def remove(self, name: str, *, force: bool) -> Outcome:
        """Stop the server of this name on each host, and remove everything that was installed for it."""
        outcome = Outcome()

        def remove(target: Target) -> None:
            request = {"do": "remove", "name": name, "force": force}
            done = self._ssh.call(target, request, timeout=_LOOK_SECONDS)
            what = (
                f"stopped, and removed {done['removed']}" if done["removed"] else "nothing was deployed there"
            )
            self._say(target.host, what)
            if done["cmd_port"] is not None:
                outcome.removed.append(_name(self._ssh.address_of(target.host), done["cmd_port"]))

        outcome.errors = _outcome(self._at_all(remove)).errors
        return outcome

    def _at_all(self, work: Callable[[Target], T]) -> dict[str, T | str]:
        """Do the same work for all hosts; return each host's result, or its error message."""

        def attempt(target: Target) -> T | str:
            try:
                return work(target)
            except (ParallelError, OSError) as error:
                self._say(target.host, "failed")
                return str(error)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            results = pool.map(attempt, self._targets)
            return dict(zip([target.host for target in self._targets], results, strict=True))

    def _deploy_to(self, target: Target, plan: Plan) -> Deployed:
        address = self._ssh.address_of(target.host)
        seen = self._ssh.call(target, {"do": "look", "name": plan.name}, timeout=_LOOK_SECONDS)
        wanted = plan.record(seen["python"], seen["version"])
        if seen["record"] == wanted and seen["status"] is not None:
            deployed = _describe(target, address, seen, seen)
            self._say(target.host, f"up to date, {_ports(deployed)}")
            return deployed
        done = self._ssh.call(
            target,
            {
                "do": "deploy",
                "name": plan.name,
                "record": wanted,
                "packages": plan.packages,
                "force": plan.force,
            },
            files=plan.files(with_packages=wanted["environment"] not in seen["environments"]),
            timeout=self._timeout,
            on_step=lambda step: self._say(target.host, step),
        )
        deployed = _describe(target, address, seen, done)
        self._say(target.host, f"ready, {_ports(deployed)}")
        return deployed

    def unreached(self, deployed: Sequence[Deployed]) -> dict[str, list[str]]:
        """Return the failed connections by the host that cannot be reached: from here, and from the other hosts."""
        reasons: dict[str, list[str]] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for each, (found, missed) in zip(deployed, pool.map(_reach_from_here, deployed), strict=True):
                each.addresses = list(dict.fromkeys([*found, *each.addresses]))
                reasons.setdefault(each.target.host, []).extend(missed)
            for host, failures in pool.map(lambda each: self._reach_from(each, deployed), deployed):
                for other, why in failures.items():
                    reasons.setdefault(other, []).append(f"{host} cannot reach its data port: {why}")
        return {host: texts for host, texts in reasons.items() if texts}

    def _reach_from(self, host: Deployed, all_of_them: Sequence[Deployed]) -> tuple[str, Mapping[str, str]]:
        """Return the hosts that one host cannot reach, and why."""
        others = [each for each in all_of_them if each is not host]
        request = {"do": "reach", "name": "", "targets": [_seen_from(host, each) for each in others]}
        if not others:
            return host.target.host, {}
        try:
            done = self._ssh.call(host.target, request, timeout=_LOOK_SECONDS)
        except DeployError as error:
            return host.target.host, {each.target.host: str(error) for each in others}
        failures = {other: _with_remedy(why, "--data-port") for other, why in done["failures"].items()}
        return host.target.host, failures


def _name(address: str, cmd_port: int) -> str:
    if cmd_port == DEFAULT_CMD_PORT:
        return address
    return f"[{address}]:{cmd_port}" if ":" in address else f"{address}:{cmd_port}"


def _outcome(found: Mapping[str, object]) -> Outcome:
    outcome = Outcome()
    for host, each in found.items():
        if isinstance(each, str):
            outcome.errors[host] = [each]
        elif isinstance(each, Deployed):
            outcome.deployed.append(each)
    return outcome


def _describe(target: Target, address: str, seen: Mapping[str, Any], state: Mapping[str, Any]) -> Deployed:
    status = state["status"]
    if status is None:
        raise DeployError("the server exited right after it started; see its log on that host")
    ports = int(status["cmd_port"]), int(status["data_port"])
    return Deployed(target, address, *ports, str(seen["machine"]), list(state["addresses"]))


def _ports(deployed: Deployed) -> str:
    return f"command port {deployed.cmd_port}, data port {deployed.data_port}"


def _reach_from_here(deployed: Deployed) -> tuple[list[str], list[str]]:
    """Return the address that reaches a host from here, and the errors of ports that cannot be reached."""
    found, failures = [], []
    for what, port, option in (
        ("command port", deployed.cmd_port, "--cmd-port"),
        ("data port", deployed.data_port, "--data-port"),
    ):
        try:
            with socket.create_connection((deployed.address, port), _REACH_SECONDS) as sock:
                found.append(str(sock.getpeername()[0]))
        except OSError as error:
            reason = f"this machine cannot reach its {what}: {deployed.address} port {port}: {error.strerror or error}"
            failures.append(_with_remedy(reason, option))
    return found, failures


def _with_remedy(reason: str, option: str) -> str:
    """Add a suggestion about a port that cannot be reached."""
    if "refused" in reason:
        return (
            f"{reason}; the server listens on another address (--bind), a firewall rejects the connection, or the "
            "server ended with the ssh login (logind.conf(5), KillUserProcesses): then run loginctl enable-linger there"
        )
    return f"{reason}; open that port in the firewalls in between, or choose another with {option}"


def _seen_from(host: Deployed, other: Deployed) -> tuple[str, list[str], int]:
    """Return how a host can reach another one; a loopback address would lead back to the host itself."""
    here = host.machine == other.machine
    addresses = [each for each in other.addresses if here or not (each.startswith("127.") or each == "::1")]
    return other.target.host, addresses, other.data_port
