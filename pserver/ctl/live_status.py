"""What servers say of themselves now.

`pserver.system.pidfile` finds servers by locks on files, which tell without a doubt which daemons live, also those that
do not answer. The file beside each lock has what must outlive a daemon that is killed: its ports and its sessions. All
else is asked for here, at the daemon itself, so it is never old.
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
    """Return the running server of a name with what it says now; ``None`` if there is none.

    Its status has ``"answers": False``, and what is in its file, if it does not answer. Raises `ConfigurationError` as
    by `find_server`.
    """
    server = find_server(name)
    return None if server is None else _with_answers([server])[0]


def live_servers() -> list[RunningServer]:
    """Return all running servers of this account, by name, as `live_server` does."""
    return _with_answers(list_servers())


def _with_answers(servers: list[RunningServer]) -> list[RunningServer]:
    """All are asked at once: those that do not answer take no longer than one, and keep no other from answering."""
    numbered = dict(enumerate(servers))  # one name may be in several run-time folders
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
    """Ask servers of this account at once; return the answers of those that give one within some seconds.

    `requests`: what each is asked for. Servers, requests and answers have the same keys.
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
            with contextlib.suppress(ConfigurationError):  # it has just ended
                answers[key] = questions[key].answer(time.monotonic() + ANSWER_SECONDS)
    for key in waiting.values():
        questions[key].close()
    return answers
