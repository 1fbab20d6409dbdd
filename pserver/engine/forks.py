"""The engine's side of starting workers: an idle engine forks them, so that they inherit a consistent workspace.

A request from the supervisor carries the descriptors for the new process. The engine forks a process that forks again
and exits. So the worker becomes a child of the spawner, which reports its end however busy the engine is.
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

_ENDS_OF_A_WORKER = 5  # pipe, page, standard output, standard error; the trace, if there is one
_MESSAGE_BYTES = 1000


class Forks:
    """Handles the supervisor's requests to fork workers.

    `sock`: the socket for requests. Each is the number of threads for numerical libraries, as text, with descriptors.
    A text message answers a request that fails. `asked`: whether a request is waiting.
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
        # A command may be running, so handle it later. The loop would report this request again and again until then.
        self.asked = True
        self._event_loop.unwatch(self._sock.fileno())

    def fork(self, leave: Callable[[], None], terms: Terms) -> None:
        """Handle the waiting request. In the worker, this does not return.

        `leave`: closes the engine's resources in the worker. `terms`: the state that the worker inherits.
        """
        self.asked = False
        ends: list[int] = []
        try:
            request, ends = receive_descriptors(self._sock, _MESSAGE_BYTES, _ENDS_OF_A_WORKER)
            if not ends:
                return  # the supervisor is gone; the engine detects that elsewhere
            self._fork(lambda: self._run_worker(ends, int(request), leave, terms))
        except OSError as error:
            with contextlib.suppress(OSError):  # the supervisor is gone
                self._sock.send(f"the engine cannot fork: {error.strerror}".encode())
        finally:
            for end in ends:
                os.close(end)
        self._listen()

    def _fork(self, be_worker: Callable[[], None]) -> None:
        flush_output()  # otherwise both processes would write the buffered output
        between = os.fork()
        if between:
            _, status = os.waitpid(between, 0)
            if status:
                raise OSError(os.waitstatus_to_exitcode(status), "the second fork failed")
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

    def _run_worker(self, ends: list[int], threads: int, leave: Callable[[], None], terms: Terms) -> None:
        leave()
        self._sock.close()
        worker_main(ends, threads, terms)
