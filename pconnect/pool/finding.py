"""Finds all servers of a pool while logging in at them: each server gets one login, which also asks for neighbours."""

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

# Logins in progress at the same time: each costs this process some hundredths of a second, and its server waits only a
# few seconds.
_TOGETHER = 32
# The login of a server waits this many seconds for the answers of servers before it.
_PATIENCE = 1.0
_LOOK_SECONDS = 0.005
_ASK_SECONDS = 5.0  # for answers that arrive immediately or never
# Fraction of the remaining time for logins side by side, so that some is left for the next ones and for the mesh.
_ROUND_PART = 0.5
# Time limit for found servers: one that does not answer is most likely gone, or never existed.
_FOUND_SECONDS = 10.0
# Limits on the total time spent on silent found servers: a fraction of the remaining time, and seconds.
_SILENT_PART, _SILENT_SECONDS = 0.5, 60.0
_NOT_TRIED = "it was not tried: the time for found servers was spent on others that did not answer"

Outcomes = dict[Any, Server | Exception]


class Finding:
    """The servers of a pool. `given`: the servers that the user has named, once for each node wanted there."""

    def __init__(self, given: Sequence[Host]) -> None:
        self.closure = Closure(given)
        self.hosts: list[Host] = []  #: of each node, in order, once all are found
        self._attempts: dict[Candidate, Attempt] = {}
        self._tried: dict[Candidate, Host] = {}  # the last address tried for each
        self._nodes: dict[int, Candidate] = {}
        self._patience: Patience | None = (
            None  # none in the first round: servers named by the user get all the time
        )
        self._numbers = itertools.count(1)

    def run(self, terms: LoginTerms, deadline: float, event_loop: EventLoop, outcomes: Outcomes) -> None:
        """Log in at all servers of the pool.

        `event_loop`: gets their command channels. `outcomes`: holds all servers at any time, so that the caller can
        close them after an error; in the end it has the server of each node, or the error of a login that had its
        number.

        Raises `ConnectError` if no server was reached; this is an `AuthenticationError` if all logins were refused, and
        a `ServerRefusedError` if all servers accept no new session.
        """
        while candidates := self.closure.next_round():
            numbering = self._run_round(candidates, terms, deadline, outcomes)
            nodes = numbering.finish()
            reached = [server for node in nodes if isinstance(server := outcomes.get(node), Server)]
            self._add_repeated(nodes, terms, deadline, outcomes)
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

    def _run_round(
        self, candidates: list[Candidate], terms: LoginTerms, deadline: float, outcomes: Outcomes
    ) -> Numbering[Candidate]:
        """Log in at some servers, as many side by side as allowed; return the numbering of their nodes."""
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
        """Log in at some servers side by side; `outcomes` gets the server of each by its node number."""
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
            if candidate.is_reached:  # its number is used, so the network is rebuilt without it
                candidate.is_reached = False
                outcomes[numbering.take(candidate)] = candidate.errors[-1]

    def _log_in(
        self, candidate: Candidate, numbering: Numbering[Candidate], terms: LoginTerms, until: float
    ) -> Steps[Server]:
        """Log in at the first address where this server answers."""
        choose = functools.partial(self._choose, candidate, numbering)
        own_terms = dataclasses.replace(terms, choose_node=choose)
        error: Exception = ConnectionLostError("no address is known for it")
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
        """Return the node number of the server that answers; 0 if the client does not want this server."""
        patience = time.monotonic() + _PATIENCE
        while not numbering.is_turn(candidate) and time.monotonic() < patience:
            yield from pause(_LOOK_SECONDS)
        if not self.closure.identify(candidate, id_of(offer)):
            return 0
        return numbering.take(candidate)

    def _add_repeated(
        self, nodes: Mapping[int, Candidate], terms: LoginTerms, deadline: float, outcomes: Outcomes
    ) -> None:
        """Request further nodes from servers that the user has named more than once."""
        groups: dict[Candidate, list[int]] = {}
        for node, candidate in nodes.items():
            groups.setdefault(candidate, []).append(node)
        run_all(steps_for_others(groups.values(), terms, outcomes), deadline, outcomes)

    def _ask(self, servers: Sequence[Server], event_loop: EventLoop, deadline: float) -> None:
        answers = ask_neighbours(servers, event_loop, self._numbers.__next__, deadline)
        for server in servers:
            if server.node in answers:
                self.closure.tell(server.location.address, answers[server.node])
