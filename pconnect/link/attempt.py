"""The progress of connecting to a host, which determines the message if it fails."""

import errno
import time

from pconnect.link.host_names import Host

#: The phases of connecting.
LOOK_UP, CONNECT, LOGIN = "look-up", "connect", "login"

_UNREACHABLE = {
    errno.EHOSTUNREACH: "the machine is off, or a firewall rejects connections to this port",
    errno.ENETUNREACH: "this machine has no route to that network; does it need a VPN?",
}


class Attempt:
    """An attempt to connect to a host. `began`: instant of `time.monotonic`; now by default."""

    def __init__(self, host: Host, began: float | None = None) -> None:
        self.phase = LOOK_UP  #: the current phase, or the one that failed
        self._host = host
        self._began = time.monotonic() if began is None else began

    def explain(self, error: Exception, now: float | None = None) -> Exception:
        """Return an error that names the phase without an answer, its duration, and the most likely cause.

        Other errors are returned unchanged.
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
            LOOK_UP: f"looking up the name {name} timed out after {seconds}: "
            "give an address, or check the name service",
            CONNECT: f"connecting to port {port} timed out after {seconds}: "
            f"the machine is down, or a firewall drops packets to this port; try nc -vz {name} {port}",
            LOGIN: f"port {port} accepts connections, but the login timed out after {seconds}: "
            "it is another service, or the server is stopped or overloaded; run pserver status there",
        }[self.phase]
        timed_out = TimeoutError(words)
        timed_out.__cause__ = error
        return timed_out
