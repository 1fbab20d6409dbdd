"""What servers say of themselves now.

`pserver.system.pidfile` finds servers by locks on files, which tell without a doubt which daemons live, also those that
do not answer. The file beside each lock has what must outlive a daemon that is killed: its ports and its sessions. All
else is asked for here, at the daemon itself, so it is never old.
"""

import contextlib
import dataclasses
import time

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
    """All are asked first: those that do not answer take no longer than one."""
    deadline = time.monotonic() + ANSWER_SECONDS
    questions: list[Question | None] = []
    for server in servers:
        questions.append(None)
        with contextlib.suppress(NoAnswerError):
            questions[-1] = Question(control_path(server.name, server.folder), _STATUS)
    return [
        _answered(server, question, deadline) for server, question in zip(servers, questions, strict=True)
    ]


def _answered(server: RunningServer, question: Question | None, deadline: float) -> RunningServer:
    status = {**server.status, "answers": False}
    if question is not None:
        with contextlib.suppress(ConfigurationError):
            status = question.answer(deadline)
    return dataclasses.replace(server, status=status)
