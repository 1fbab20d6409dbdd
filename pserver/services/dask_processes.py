"""The processes of Dask clusters in an engine: started, watched and ended there, because the client says so.

The methods of `DaskProcesses` are services, which the client calls (see `pconnect.dask.cluster`) in this order, for
each cluster: `prepare` makes keys, which stay here; the client signs them; `start` starts the processes; `connect`
tells the workers where the scheduler is; `look` reports what became of them; `stop` ends them. None of them waits for
more than a moment, so the engine is the user's meanwhile, and afterwards.

A process ends with the engine, however that ends: it is in its group, which the server kills, and the system kills it
when its parent has ended.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pconnect.loop.interrupts import DeferredSigint
from pconnect.session.versions import installed
from pserver.services.files import SessionFiles
from srp_tools.certificates import NodeKey
from srp_tools.errors import ConfigurationError

_SCHEDULER = "scheduler"
_LAST_BYTES = 4000  # of standard error, for the error that tells why a process could not start
_MAX_REPORT_BYTES = 4096
_KILL_TIMEOUT = 5.0

# What Dask's own starter of workers sets: as many threads as there are tasks at once, not that many for each of them.
# Its log would be lines for every worker that comes and goes. The engine's environment goes before.
_ENVIRONMENT = {
    "DASK_LOGGING__DISTRIBUTED": "warning",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class _Process:
    """A process of a cluster."""

    def __init__(self, name: str, settings: Mapping[str, object], folder: Path) -> None:
        self.name = name
        self._last_words = folder / f"{name}.stderr"
        self._said = b""
        self.report, its_report = os.pipe()
        its_errors = os.dup(2)
        try:
            with self._last_words.open("wb") as errors:
                self._popen = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "pserver.services.dask_process",
                        str(its_report),
                        str(its_errors),
                    ],
                    stdin=subprocess.PIPE,
                    stderr=errors,
                    pass_fds=(its_report, its_errors),
                    env=_ENVIRONMENT | os.environ,
                    bufsize=0,
                )
        except OSError:
            os.close(self.report)
            raise
        finally:
            os.close(its_report)
            os.close(its_errors)
        self.tell(json.dumps(settings))

    def tell(self, line: str) -> None:
        """Write a line to its standard input; that it has ended is seen elsewhere."""
        assert self._popen.stdin is not None  # noqa: S101 - it was made
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.write(line.encode() + b"\n")

    @property
    def address(self) -> str | None:
        """Where it listens, once it has said so."""
        return self._report.get("address")

    @property
    def _report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._said) if self._said.endswith(b"\n") else {}
        return found

    def take_report(self) -> None:
        """Read what it says; the end, if it has said all, or has ended."""
        part = os.read(self.report, _MAX_REPORT_BYTES)
        self._said += part
        if not part:
            self._close_report()

    def _close_report(self) -> None:
        if self.report >= 0:
            os.close(self.report)
            self.report = -1

    def facts(self) -> dict[str, Any]:
        """Return what the client wants to know of it."""
        code = self._popen.poll()
        if code is None and self.report < 0 and self.address is None:
            code = self._popen.wait(_KILL_TIMEOUT)  # it is ending
        return {
            "pid": self._popen.pid,
            "address": self.address,
            "dashboard": self._report.get("dashboard"),  # its port
            "exit_code": code,
            "last_words": self._tail() if self.address is None else "",
        }

    def _tail(self) -> str:
        with self._last_words.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            return file.read().decode(errors="replace").strip()

    def end(self, deadline: float) -> bool:
        """Kill it unless it has ended by itself until then; return whether that was necessary."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        killed = self._popen.returncode is None
        if killed:
            self._popen.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel
                self._popen.wait(_KILL_TIMEOUT)
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        self._close_report()
        return killed


class _Cluster:
    """What an engine has of one cluster: the keys of its processes, then the processes."""

    def __init__(self, names: Collection[str], files: SessionFiles) -> None:
        self.keys = {name: NodeKey() for name in names}
        self.processes: dict[str, _Process] = {}
        self._files = files
        self._folder: Path | None = None

    def start(self, certificates: Mapping[str, bytes], authority: bytes, settings: Mapping[str, Any]) -> None:
        """Start the processes; each takes its key along, which is forgotten here."""
        folder = self._folder = Path(tempfile.mkdtemp(prefix="dask-", dir=self._files.session_folder))
        for name, key in self.keys.items():
            identity = key.pem_identity(certificates[name], authority)
            own = {
                "name": name,
                "role": _SCHEDULER if name == _SCHEDULER else "worker",
                "identity": [identity.key, identity.certificate, identity.authority],
                "folder": str(folder),
                "path": sys.path,
            }
            with DeferredSigint():  # an interrupt must not lose sight of a process that has started
                self.processes[name] = _Process(name, {**settings, **own}, folder)
        self.keys.clear()

    def take_reports(self, seconds: float) -> None:
        """Take in what the processes say in the next moment."""
        by_descriptor = {
            process.report: process for process in self.processes.values() if process.report >= 0
        }
        if by_descriptor:
            for descriptor in select.select(list(by_descriptor), [], [], seconds)[0]:
                by_descriptor[descriptor].take_report()

    def stop(self, grace: float) -> list[str]:
        """End the processes, and remove their files; return the names of those that had to be killed."""
        deadline = time.monotonic() + grace
        killed = [name for name, process in self.processes.items() if process.end(deadline)]
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)  # the session's end removes what is left
        return killed


class DaskProcesses:
    """The clusters of one engine, by the names that the client gave them.

    `files`: those of the session; each cluster gets a folder in its private one.
    """

    def __init__(self, files: SessionFiles) -> None:
        self._files = files
        self._clusters: dict[str, _Cluster] = {}

    def prepare(self, key: str, names: Sequence[str]) -> tuple[str | None, dict[str, bytes]]:
        """Make a key for each process of a cluster to be started here.

        Returns the version of ``distributed`` and the public keys to sign, by name. Without ``distributed`` the version
        is ``None``, and nothing was done.
        """
        version = installed(["distributed"])["distributed"]
        if version is None:
            return None, {}
        cluster = self._clusters[key] = _Cluster(names, self._files)
        return version, {name: node_key.public_bytes() for name, node_key in cluster.keys.items()}

    def start(
        self, key: str, certificates: Mapping[str, bytes], authority: bytes, settings: Mapping[str, Any]
    ) -> None:
        """Start the processes of a cluster, with the certificates (DER) that the client made for their keys.

        Raises `AuthenticationError` if a certificate is for another key. What was started before goes on, until `stop`.
        Raises `OSError` if a process could not be started; as above.
        """
        self._of(key).start(certificates, authority, settings)

    def connect(self, key: str, scheduler: str) -> None:
        """Tell the workers here the address of the scheduler."""
        for name, process in self._of(key).processes.items():
            if name != _SCHEDULER:
                process.tell(scheduler)

    def look(self, key: str, seconds: float) -> dict[str, dict[str, Any]]:
        """Return what is known of the processes here, after waiting some seconds at most for news of them."""
        cluster = self._of(key)
        cluster.take_reports(seconds)
        return {name: process.facts() for name, process in cluster.processes.items()}

    def stop(self, key: str, grace: float) -> list[str]:
        """End the processes here, by force if they have not ended within some seconds; return the names of these.

        A cluster that is not here, or no more, needs no end.
        """
        cluster = self._clusters.pop(key, None)
        return [] if cluster is None else cluster.stop(grace)

    def _of(self, key: str) -> _Cluster:
        try:
            return self._clusters[key]
        except KeyError:
            raise ConfigurationError(
                "this engine has no such Dask cluster: was it restarted meanwhile?"
            ) from None
