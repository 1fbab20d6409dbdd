"""What servers say of themselves now.

`pserver.system.pidfile` finds servers by locks on files, which tell without a doubt which daemons live, also those that
do not answer. The file beside each lock has what must outlive a daemon that is killed: its ports and its sessions. All
else is asked for here, at the daemon itself, so it is never old.
"""

import contextlib
import dataclasses
import select
import time
from collections.abc import Iterable, Mapping
from typing import Any

from pserver.ctl.asking import ANSWER_SECONDS, NoAnswerError, Question, control_path
from pserver.system.pidfile import RunningServer, find_server, list_servers
from srp_tools.errors import ConfigurationError

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
    answers = ask_all(servers, dict.fromkeys([server.name for server in servers], _STATUS))
    return [
        dataclasses.replace(server, status=answers.get(server.name, {**server.status, "answers": False}))
        for server in servers
    ]


def ask_all(
    servers: Iterable[RunningServer],
    requests: Mapping[str, Mapping[str, object]],
    seconds: float = ANSWER_SECONDS,
) -> dict[str, dict[str, Any]]:
    """Ask servers of this account at once; return the answers of those that give one within some seconds, by name.

    `requests`: by name, what each is asked for.
    """
    questions: dict[str, Question] = {}
    for server in servers:
        with contextlib.suppress(NoAnswerError):
            questions[server.name] = Question(control_path(server.name, server.folder), requests[server.name])
    return _await_answers(questions, seconds)


def _await_answers(questions: Mapping[str, Question], seconds: float) -> dict[str, dict[str, Any]]:
    waiting = {question.fileno(): name for name, question in questions.items()}
    answers: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    while waiting and (ready := poll.poll(max(0.0, deadline - time.monotonic()) * 1000)):
        for descriptor, _ in ready:
            poll.unregister(descriptor)
            name = waiting.pop(descriptor)
            with contextlib.suppress(ConfigurationError):  # it has just ended
                answers[name] = questions[name].answer(time.monotonic() + ANSWER_SECONDS)
    for name in waiting.values():
        questions[name].close()
    return answers
