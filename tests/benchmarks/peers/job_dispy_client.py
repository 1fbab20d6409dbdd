"""The client of dispy, which also starts the node."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dispy
import numpy as np

from tests.benchmarks.job_functions import nothing, size
from tests.benchmarks.peers.alone import end, serve
from tests.benchmarks.peers.identity import make_identity
from tests.benchmarks.peers.peer import SLEEP_SECONDS, SLEEPERS, WORKERS, CannotError, Floats, Peer, seconds
from tests.benchmarks.timing import JOBS

# A node offers at most as many slots as the machine has processors.
CPUS = min(WORKERS, os.cpu_count() or 1)
_PORT = 51348
_SECRET = "of no importance"
_TIMEOUT = 20.0
_FIRST_TIMEOUT = 30.0


def sleep(duration: float) -> None:
    """Take a while; a node receives only these lines."""
    import time

    time.sleep(duration)


class Client(Peer):
    """A cluster for one function at a time: dispy needs a separate cluster for each function."""

    def __init__(self, certificate: str, key: str, array: Floats) -> None:
        self._options: dict[str, Any] = {"certfile": certificate, "keyfile": key}
        self._array = array
        self._function: Callable[..., Any] | None = None
        self._cluster: Any = None

    def call(self) -> float:
        self._prepare(nothing)
        return self._run([0])

    def many(self) -> float:
        self._prepare(nothing)
        return self._run(range(JOBS))

    def put(self) -> float:
        self._prepare(size, np.zeros(1))
        return self._run([self._array])

    def share(self) -> float:
        self._prepare(sleep, 0.0)
        return self._run([SLEEP_SECONDS] * SLEEPERS)

    def _prepare(self, function: Callable[..., Any], argument: Any = 0) -> None:
        if self._function is function:
            return
        self.close()
        self._cluster = dispy.JobCluster(
            function,
            nodes=["127.0.0.1"],
            host="127.0.0.1",
            dispy_port=_PORT,
            secret=_SECRET,
            loglevel=dispy.logger.CRITICAL,
            **self._options,
        )
        self._function = function
        self._wait([self._cluster.submit(argument)], _FIRST_TIMEOUT)

    def _run(self, arguments: Sequence[Any]) -> float:
        return seconds(
            lambda: self._wait([self._cluster.submit(argument) for argument in arguments], _TIMEOUT)
        )

    def _wait(self, jobs: Sequence[Any], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for job in jobs:
            job.finish.wait(max(0.0, deadline - time.monotonic()))
        done = sum(job.status == dispy.DispyJob.Finished for job in jobs)
        if done < len(jobs):
            self.close()
            raise CannotError(f"{done} of {len(jobs)} jobs done after {timeout:.0f} s")

    def close(self) -> None:
        """End the cluster, if there is one."""
        if self._cluster is not None:
            self._cluster.close(timeout=1, terminate=True)
        self._cluster = self._function = None


@contextlib.contextmanager
def _node(folder: str, certificate: str, key: str) -> Iterator[None]:
    program = Path(sys.executable).with_name("dispynode.py")
    command = [sys.executable, os.fspath(program), "-i", "127.0.0.1", "-p", str(_PORT), "-c", str(CPUS)]
    command += ["--daemon", "--clean", "--dest_path_prefix", str(Path(folder, "node")), "-s", _SECRET]
    command += ["--max_file_size", "0", "--certfile", certificate, "--keyfile", key]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
    )
    try:
        time.sleep(2)  # it does not report when it is ready
        yield
    finally:
        end(process, 0)


def main() -> None:
    """Start the node; serve the process that listens on the path in the last argument."""
    count, path = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="peers-dispy-") as folder:
        identity = make_identity(Path(folder))
        # Both sides trust the certificates in their own file, so it must contain the authority as well.
        chain = Path(folder, "chain")
        chain.write_bytes(b"".join(Path(identity[name]).read_bytes() for name in ("certfile", "ca_certs")))
        certificate, key = str(chain), identity["keyfile"]
        os.chdir(folder)
        with _node(folder, certificate, key):
            client = Client(certificate, key, np.random.default_rng(1).standard_normal(int(count)))
            serve(path, client)
            client.close()
    os._exit(0)  # its threads linger


if __name__ == "__main__":
    main()
