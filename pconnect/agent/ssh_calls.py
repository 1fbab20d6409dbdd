"""One call of `prun-ssh`: turn an ssh command line into a command for the login shell on a server."""

from dataclasses import replace

import pconnect
from pconnect.agent.callers import Caller
from pconnect.agent.calls import Answer, Call, end
from pconnect.agent.held_network import Generation
from pconnect.agent.plans import Plan
from pconnect.agent.remote_run import terminal_size
from pconnect.agent.requests import Request
from pconnect.agent.shared import NoNetworkError, Shared
from pconnect.connect import pconnect as connect
from pconnect.errors import ConfigurationError, CredentialError
from pconnect.profiles import configured_options
from pconnect.prun.fast_client import SHOWN, SSH_FAILURE
from pconnect.prun.settings import Settings
from pconnect.prun.ssh_request import Shows, SshRequest
from pconnect.prun.ssh_words import parse
from pconnect.session.login import find_credentials

#: The first word of a request that comes from `prun-ssh`.
SSH = "--ssh"
_NAME = "prun-ssh"


class SshCall(Call):
    """One call of `prun-ssh`, recognized by the first word of its request. `shared`: the state shared by all calls."""

    def __init__(self, shared: Shared, caller: Caller, request: Request) -> None:
        super().__init__(shared, caller, replace(request, words=request.words[1:]))

    async def run(self) -> Answer:
        """Carry out the request; return the kind and the contents of the last message to the caller."""
        try:
            wanted = parse(self._request.words)
            match wanted.shows:
                case Shows.VERSION:
                    return end(0, f"{_NAME} of pserver {pconnect.__version__}, with the command line of ssh")
                case Shows.CONFIGURATION:
                    await self._caller.tell(SHOWN, wanted.configuration().encode(errors="surrogateescape"))
                    return end(0)
            generation = await self._shared.generation()
            plan = self._plan_of(wanted, _nodes(wanted, generation))
        except (ConfigurationError, NoNetworkError) as error:
            return end(SSH_FAILURE, f"{_NAME}: {error}")
        return await self.carry_out(plan)

    def _plan_of(self, wanted: SshRequest, nodes: frozenset[int]) -> Plan:
        request = self._request
        is_terminal = wanted.wants_terminal(stdin_is_terminal=request.terminals[0])
        size = terminal_size(*self._caller.ends[:2])
        return Plan(
            _NAME,
            [wanted.command],
            Settings(stdin=wanted.stdin, terminal=is_terminal),
            "/",
            wanted.environment(request.environment, on_terminal=is_terminal),
            nodes=nodes,
            terminal=size if is_terminal else None,
            failure=SSH_FAILURE,
            caller=_NAME,
            login=wanted.account(_network_user()) if wanted.user else "",
        )


def _nodes(wanted: SshRequest, generation: Generation) -> frozenset[int]:
    """Return the nodes that may run it; raise `ConfigurationError` with the reason if there is none."""
    missing = {-number: host for number, host in enumerate(generation.network.missing, 1)}
    meant = wanted.nodes({node.number: node.server.host for node in generation.nodes} | missing)
    gone = {node.number: node.gone for node in generation.nodes if node.gone}
    gone |= {number: str(generation.network.missing[host]) for number, host in missing.items()}
    if meant <= gone.keys():
        raise ConfigurationError(f"{wanted.host}: {gone[max(meant)]}")
    return frozenset(meant - gone.keys())


def _network_user() -> str:
    """Return our user name on the servers, ``""`` if there is none."""
    options = configured_options(connect)
    try:
        return find_credentials(options.get("user"), None, options.get("password_file")).user
    except CredentialError:
        return ""
