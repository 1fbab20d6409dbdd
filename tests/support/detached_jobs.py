"""A session with detached jobs; the workers are only pipes, which a test plays."""

import os
import socket
from pathlib import Path
from typing import Any

from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, decode_messages
from pserver.jobs.job_store import JobStore
from pserver.jobs.shared_status import SharedStatus
from pserver.session.detached_jobs import DetachedJobs, WorkerControl
from pserver.session.worker_process import WorkerProcess

FACTS: dict[str, Any] = {"name": "f", "retries": 0, "isolate": False, "after": 0, "limit": None, "parts": []}


class SlotClient:
    is_gone = False
    is_detached = False

    def tell_detached(self) -> None:
        self.is_detached = True


class Office:
    """A session, with workers that the test plays."""

    def __init__(self, kept: Path) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        self.pipes: dict[int, socket.socket] = {}
        self.pages: dict[int, SharedStatus] = {}
        self.readers: dict[int, Any] = {}
        self.told: list[tuple[Kind, int, Any]] = []
        self.wanted = 0
        self.slot_client = SlotClient()
        control = WorkerControl(
            self.workers,
            self.readers.__setitem__,
            self.readers.__delitem__,
            lambda *words: self.told.append(words),
            lambda wanted: setattr(self, "wanted", wanted),
            self.slot_client,  # type: ignore[arg-type]
            lambda: None,
        )
        self.detached_jobs = DetachedJobs(kept, bytes(16), 1, "alice", control)
        self.store = JobStore(kept / f"{bytes(16).hex()}-1")

    def hire(self, number: int, command: int = 0) -> None:
        ours, self.pipes[number] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pipes[number].settimeout(5)
        memory = SharedStatus.make()
        self.pages[number] = SharedStatus(memory)
        worker = WorkerProcess(number, number, ours, SharedStatus(memory), [], pid=number, command=command)
        os.close(memory)
        self.workers[number] = worker
        self.detached_jobs.worker_started(worker)

    def say(self, kind: Kind, tag: int = 0, value: object = None) -> list[tuple[Kind, int, Any]]:
        self.told.clear()
        self.detached_jobs.hear(Message(kind, tag, value))
        return list(self.told)

    def keep(self, number: int, **facts: Any) -> None:
        value = [FACTS | {"worker": 0} | facts, {}, b""]
        assert self.say(Kind.KEEP, number, value) == [(Kind.KEEP, number, None)]

    def leave(self, *ended: int) -> None:
        assert self.say(Kind.DETACH) == [(Kind.DETACH, 0, None)]
        assert self.say(Kind.LEAVE, 0, list(ended)) == [(Kind.LEAVE, 0, None)]

    def speak(self, number: int, words: str) -> None:
        self.pipes[number].send(words.encode())
        self.readers[self.workers[number].pipe.fileno()]()

    def hear(self, number: int) -> str:
        return self.pipes[number].recv(5000).decode()

    def end(self, number: int, results: bytes = b"") -> None:
        worker = self.workers.pop(number)
        told = {
            "how": "SIGKILL",
            "seconds": 1.0,
            "results": results,
            "outputs": [[b"its end\n", 0], [b"", 0]],
        }
        self.detached_jobs.worker_ended(worker, worker.page.read(), told)
        worker.close()

    def result(self, number: int) -> Any:
        [message] = decode_messages(Role.EMPLOYER, self.store.result(number))
        return message.value
