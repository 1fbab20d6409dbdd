"""The engine's side of making workers: it forks them when it is idle, so that they have a workspace which is whole.

The supervisor asks with the descriptors that the new process is to have. The process that the engine forks forks again
and ends, so that the worker becomes a child of the spawner, which reports its end however busy the engine is.
"""

import contextlib
import os
import socket
import time
import traceback
from collections.abc import Callable

from pconnect.loop.event_loop import EventLoop
from pserver.engine.worker import Terms, worker_main
from pserver.system.descriptors import receive_descriptors
from pserver.system.flush import flush_output

_ENDS_OF_A_WORKER = 5  # pipe, page, standard output, standard error; for the trace, if there is one
_MESSAGE_BYTES = 1000


class Forks:
    """The requests of the supervisor to fork workers.

    `sock`: where they come in: each the number of threads that numerical libraries may use, as text, with descriptors.
    Errors are answered by a text. `asked`: whether a request waits.
    """

    def __init__(self, sock: socket.socket, event_loop: EventLoop) -> None:
        self._sock = sock
        self._event_loop = event_loop
        self.asked = False
        sock.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        self._event_loop.watch(self._sock.fileno(), self._on_request)

    def _on_request(self) -> None:
        # Not now: a command may be running. Until the next request, the loop would report this one without end.
        self.asked = True
        self._event_loop.unwatch(self._sock.fileno())

    def fork(self, leave: Callable[[], None], terms: Terms) -> None:
        """Do what was asked for; in the worker, does not return.

        `leave`: closes in the worker what is the engine's. `terms`: what the worker takes over.
        """
        self.asked = False
        ends: list[int] = []
        try:
            request, ends = receive_descriptors(self._sock, _MESSAGE_BYTES, _ENDS_OF_A_WORKER)
            if not ends:
                return  # the supervisor is gone, which the engine hears of elsewhere
            self._fork(lambda: self._be_worker(ends, int(request), leave, terms))
        except OSError as error:
            with contextlib.suppress(OSError):  # the supervisor is gone
                self._sock.send(f"the engine cannot fork: {error.strerror}".encode())
        finally:
            for end in ends:
                os.close(end)
        self._listen()

    def _fork(self, be_worker: Callable[[], None]) -> None:
        flush_output()  # else both processes would write what waits there
        between = os.fork()
        if between:
            _, status = os.waitpid(between, 0)
            if status:
                raise OSError(os.waitstatus_to_exitcode(status), "it could not fork a second time")
            return
        between = os.getpid()
        try:
            if os.fork():
                os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
        try:
            while os.getppid() == between:
                time.sleep(0.0002)
            be_worker()
        except BaseException:  # noqa: BLE001 - nothing may get back into the engine's code
            traceback.print_exc()
        finally:
            os._exit(1)

    def _be_worker(self, ends: list[int], threads: int, leave: Callable[[], None], terms: Terms) -> None:
        leave()
        self._sock.close()
        worker_main(ends, threads, terms)
