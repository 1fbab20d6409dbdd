"""The current status of running servers.

`pserver.system.pidfile` finds servers by file locks, which show reliably which daemons are alive, even those that do
not answer. The file next to each lock contains everything that must outlive a killed daemon: its ports and its
sessions. All other facts come from the daemon itself, so they are always current.
"""

import contextlib
import dataclasses
import select
import time
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from pserver.ctl.asking import ANSWER_SECONDS, NoAnswerError, Question, control_path
from pserver.system.pidfile import RunningServer, find_server, list_servers
from srp_tools.errors import ConfigurationError

Key = TypeVar("Key", bound=Hashable)

_STATUS = {"do": "status"}


def live_server(name: str) -> RunningServer | None:
    """Return the running server of a name with its current status; ``None`` if there is none.

    If the server does not answer, its status contains ``"answers": False`` and the contents of its file. Raises
    `ConfigurationError` under the conditions of `find_server`.
    """
    server = find_server(name)
    return None if server is None else _with_answers([server])[0]


def live_servers() -> list[RunningServer]:
    """Return all running servers of this account, sorted by name, with the same status as `live_server`."""
    return _with_answers(list_servers())


def _with_answers(servers: list[RunningServer]) -> list[RunningServer]:
    """Ask all servers in parallel, so that servers that do not answer delay neither each other nor the rest."""
    numbered = dict(enumerate(servers))  # the same name may exist in several run-time folders
    answers = ask_all(numbered, dict.fromkeys(numbered, _STATUS))
    return [
        dataclasses.replace(server, status=answers.get(number, {**server.status, "answers": False}))
        for number, server in numbered.items()
    ]


def ask_all(
    servers: Mapping[Key, RunningServer],
    requests: Mapping[Key, Mapping[str, object]],
    seconds: float = ANSWER_SECONDS,
) -> dict[Key, dict[str, Any]]:
    """Send requests to servers of this account in parallel; return the answers that arrive within `seconds`.

    `requests`: one request for each server. Servers, requests and answers have the same keys.
    """
    questions: dict[Key, Question] = {}
    for key, server in servers.items():
        with contextlib.suppress(NoAnswerError):
            questions[key] = Question(control_path(server.name, server.folder), requests[key])
    return _await_answers(questions, seconds)


def _await_answers(questions: Mapping[Key, Question], seconds: float) -> dict[Key, dict[str, Any]]:
    waiting = {question.fileno(): key for key, question in questions.items()}
    answers: dict[Key, dict[str, Any]] = {}
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    while waiting and (ready := poll.poll(max(0.0, deadline - time.monotonic()) * 1000)):
        for descriptor, _ in ready:
            poll.unregister(descriptor)
            key = waiting.pop(descriptor)
            with contextlib.suppress(ConfigurationError):  # the server has just stopped
                answers[key] = questions[key].answer(time.monotonic() + ANSWER_SECONDS)
    for key in waiting.values():
        questions[key].close()
    return answers
