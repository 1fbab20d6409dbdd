"""How far the client has come with a host that it connects to: what the text of a failure is made of."""

import errno
import time

from pconnect.link.host_names import Host

#: The phases.
LOOK_UP, CONNECT, LOGIN = "look-up", "connect", "login"

_UNREACHABLE = {
    errno.EHOSTUNREACH: "the machine is off, or a firewall refuses what comes to this port",
    errno.ENETUNREACH: "this machine has no way to that network, as without a VPN",
}


class Attempt:
    """A host on its way. `began`: instant of `time.monotonic`; now by default."""

    def __init__(self, host: Host, began: float | None = None) -> None:
        self.phase = LOOK_UP  #: what is being done, or was when it failed
        self._host = host
        self._began = time.monotonic() if began is None else began

    def explain(self, error: Exception, now: float | None = None) -> Exception:
        """Return an error that says in which phase nothing came, for how long, and what most likely is the cause.

        Others say so themselves, and are returned as they are.
        """
        if isinstance(error, OSError) and error.errno in _UNREACHABLE:
            explained = OSError(f"{error.strerror}, port {self._host.port}: {_UNREACHABLE[error.errno]}")
            explained.__cause__ = error
            return explained
        if not isinstance(error, TimeoutError):
            return error
        seconds = f"{(time.monotonic() if now is None else now) - self._began:.1f} s"
        name, port = self._host.name, self._host.port
        words = {
            LOOK_UP: f"the look-up of the name {name} had no answer within the time limit, in {seconds}: "
            "give an address, or check the name service",
            CONNECT: f"nothing answers at port {port} within {seconds}: "
            f"the machine is down, or a firewall drops what comes to this port; try nc -vz {name} {port}",
            LOGIN: f"port {port} takes connections, but does not answer the login within the time limit, in {seconds}: "
            "it is another service, or the server is stopped or overloaded; see pserver status there",
        }[self.phase]
        timed_out = TimeoutError(words)
        timed_out.__cause__ = error
        return timed_out
