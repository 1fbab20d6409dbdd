"""Finding all servers of a pool while logging in at them: each has one login, and is asked for its neighbours in it."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pconnect.errors import ConnectionLostError
from pconnect.growth.outcomes import REASONS, refusal, steps_for_others
from pconnect.link.attempt import Attempt
from pconnect.link.host_names import Host
from pconnect.loop.event_loop import EventLoop
from pconnect.pool.closure import Candidate, Closure, by_doubt
from pconnect.pool.neighbours import ask_neighbours
from pconnect.pool.numbering import Numbering
from pconnect.pool.patience import Patience
from pconnect.routes.location import id_of
from pconnect.session.login import LoginTerms, log_in_at
from pconnect.session.server import Server
from srp_tools.steps import Steps, deadline_after, pause, run_all

# At once: each costs this process some hundredths of a second, and its server waits for no more than some seconds.
_TOGETHER = 32
# For a server that comes before another one; in these seconds that one's login waits for its answer.
_PATIENCE = 1.0
_LOOK_SECONDS = 0.005
_ASK_SECONDS = 5.0  # for what a server says at once, or never
# Of the time that is left, for logins side by side, so that some is left for the next, and for the mesh.
_ROUND_PART = 0.5
# And at most so long for servers that were found: what does not answer is most likely gone, or was never there.
_FOUND_SECONDS = 10.0
# Of the time, and at most so long, for the silence of all that were found.
_SILENT_PART, _SILENT_SECONDS = 0.5, 60.0
_NOT_TRIED = "it was not tried: the time for servers that were found went to others that do not answer"

Outcomes = dict[Any, Server | Exception]


class Finding:
    """The servers of a pool. `given`: those that the user has named, each as often as it is to have nodes."""

    def __init__(self, given: Sequence[Host]) -> None:
        self.closure = Closure(given)
        self.hosts: list[Host] = []  #: of each node in its order, once all are found
        self._attempts: dict[Candidate, Attempt] = {}
        self._tried: dict[Candidate, Host] = {}  # where each was tried last
        self._nodes: dict[int, Candidate] = {}
        self._patience: Patience | None = None  # with those that the user has named, there is no end to it
        self._numbers = itertools.count(1)

    def run(self, terms: LoginTerms, deadline: float, event_loop: EventLoop, outcomes: Outcomes) -> None:
        """Log in at all servers of the pool.

        `event_loop`: gets their command channels. `outcomes`: has all servers at any time, so that the caller can close
        them after an error; in the end it has the server of each node, or why a login failed that had its number.

        Raises `ConnectError` if there is none; if the only reasons are refused logins it is an `AuthenticationError`,
        and if they are servers that take no new session, a `ServerRefusedError`.
        """
        while candidates := self.closure.next_round():
            numbering = self._go_round(candidates, terms, deadline, outcomes)
            nodes = numbering.finish()
            reached = [server for node in nodes if isinstance(server := outcomes.get(node), Server)]
            self._add_further(nodes, terms, deadline, outcomes)
            for node in nodes:
                if isinstance(server := outcomes[node], Server):
                    event_loop.add(server.command)
            self._nodes |= nodes
            self._ask(reached, event_loop, min(deadline, deadline_after(_ASK_SECONDS)))
            if self._patience is None:
                seconds = (deadline - time.monotonic()) * _SILENT_PART
                self._patience = Patience(min(seconds, _SILENT_SECONDS))
        if not any(isinstance(outcome, Server) for outcome in outcomes.values()):
            raise refusal(self.closure.missing())
        self.hosts = [self._tried[candidate] for candidate in self._nodes.values()]

    def _go_round(
        self, candidates: list[Candidate], terms: LoginTerms, deadline: float, outcomes: Outcomes
    ) -> Numbering[Candidate]:
        """Log in at some servers, as many side by side as may be; return what has numbered them."""
        patience = self._patience
        if patience is not None and len(candidates) > _TOGETHER:
            candidates = by_doubt(candidates)
        numbering = Numbering(candidates if patience else self.closure.given, len(self._nodes) + 1)
        if patience is not None and not patience.begin_round():
            for each in candidates:
                each.give_up(TimeoutError(_NOT_TRIED))
            return numbering
        batches = [candidates[begin : begin + _TOGETHER] for begin in range(0, len(candidates), _TOGETHER)]
        for done, batch in enumerate(batches):
            if patience is not None and not patience.begin(len(batches) - done):
                for each in batch:
                    each.is_deferred = True
                    numbering.fail(each)
                continue
            seconds = (deadline - time.monotonic()) * _ROUND_PART
            until = time.monotonic() + (min(seconds, _FOUND_SECONDS) if patience else seconds)
            self._log_in_at(batch, numbering, terms, until, outcomes)
        return numbering

    def _log_in_at(
        self,
        candidates: Sequence[Candidate],
        numbering: Numbering[Candidate],
        terms: LoginTerms,
        until: float,
        outcomes: Outcomes,
    ) -> None:
        """Log in at some servers side by side; `outcomes` gets the server of each by the number of its node."""
        steps = {each: self._log_in(each, numbering, terms, until) for each in candidates}
        if self._patience is not None:
            steps = {each: self._patience.watch(login) for each, login in steps.items()}
        run_all(steps, until, outcomes)
        if self._patience is not None and any(
            isinstance(outcomes[each], TimeoutError) for each in candidates
        ):
            self._patience.end()
        for candidate in candidates:
            outcome = outcomes.pop(candidate)
            if isinstance(outcome, Server):
                outcomes[outcome.node] = outcome
                continue
            if not isinstance(outcome, REASONS):
                raise outcome
            why = self._attempts[candidate].explain(outcome)
            if self._patience is not None and isinstance(outcome, TimeoutError) and not candidate.is_reached:
                candidate.defer(why)
                continue
            candidate.give_up(why)
            if candidate.is_reached:  # its number is taken, so the network is made anew without it
                candidate.is_reached = False
                outcomes[numbering.take(candidate)] = candidate.errors[-1]

    def _log_in(
        self, candidate: Candidate, numbering: Numbering[Candidate], terms: LoginTerms, until: float
    ) -> Steps[Server]:
        """Log in at the first place where this server answers."""
        choose = functools.partial(self._choose, candidate, numbering)
        own_terms = dataclasses.replace(terms, choose_node=choose)
        error: Exception = ConnectionLostError("it has no address")
        try:
            while candidate.hosts and not candidate.is_other:
                host = self._tried[candidate] = candidate.hosts.pop(0)
                attempt = self._attempts[candidate] = Attempt(host)
                try:
                    server = yield from log_in_at(host, 0, own_terms, until, attempt)
                except REASONS as met:
                    error = attempt.explain(met)
                    if candidate.is_reached:
                        break
                else:
                    self.closure.reach(host)
                    return server
            raise error
        finally:
            numbering.fail(candidate)

    def _choose(
        self, candidate: Candidate, numbering: Numbering[Candidate], offer: Mapping[str, Any]
    ) -> Steps[int]:
        """Return the number of the node of a server that answers; 0 if it is not one that is looked for."""
        patience = time.monotonic() + _PATIENCE
        while not numbering.is_turn(candidate) and time.monotonic() < patience:
            yield from pause(_LOOK_SECONDS)
        if not self.closure.identify(candidate, id_of(offer)):
            return 0
        return numbering.take(candidate)

    def _add_further(
        self, nodes: Mapping[int, Candidate], terms: LoginTerms, deadline: float, outcomes: Outcomes
    ) -> None:
        """Ask for further nodes at the servers that the user has named more than once."""
        groups: dict[Candidate, list[int]] = {}
        for node, candidate in nodes.items():
            groups.setdefault(candidate, []).append(node)
        run_all(steps_for_others(groups.values(), terms, outcomes), deadline, outcomes)

    def _ask(self, servers: Sequence[Server], event_loop: EventLoop, deadline: float) -> None:
        answers = ask_neighbours(servers, event_loop, self._numbers.__next__, deadline)
        for server in servers:
            if server.node in answers:
                self.closure.tell(server.location.address, answers[server.node])
