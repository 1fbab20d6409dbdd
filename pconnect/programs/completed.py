"""How programs have ended: what is returned, and the errors that say why one has not."""

import shlex
import signal
import subprocess
from typing import Any

from pconnect.errors import ParallelError
from pconnect.jobs.output_files import NO_OUTPUTS, JobOutputs
from srp_tools.printable import printable_text


class ProgramTimeoutError(ParallelError, TimeoutError):
    """A program was ended because its time limit had passed. `stdout`, `stderr`: what it had written before."""

    stdout: bytes | str | None = None
    stderr: bytes | str | None = None


class ProgramFailedError(ParallelError, subprocess.CalledProcessError):
    """A program has ended with an exit status that is not 0, or by a signal, where that is an error.

    It has what `subprocess.CalledProcessError` has, and ``node``, ``host``, ``outputs`` as `CompletedProgram` has them.
    """

    def __init__(self, completed: "CompletedProgram") -> None:
        super().__init__(completed.returncode, completed.args, completed.stdout, completed.stderr)
        self.node, self.host, self.outputs = completed.node, completed.host, completed.outputs
        self._completed = completed

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._completed,)

    def __str__(self) -> str:
        code = self.returncode
        how = f"exit status {code}" if code > 0 else f"ended by signal {-code} ({signal.strsignal(-code)})"
        place = "" if self.node is None else f" at node {self.node} ({self.host})"
        said = self.stderr.decode("utf-8", "replace") if isinstance(self.stderr, bytes) else self.stderr
        last = "".join(said.strip().splitlines()[-1:])
        return printable_text(f"{shlex.join(self.cmd)[:100]}{place}: {how}{': ' * bool(last)}{last[:300]}")


class CompletedProgram(subprocess.CompletedProcess[Any]):
    """How a program has ended, as of `subprocess.run`, and where.

    Attributes
    ----------
    args, returncode, stdout, stderr
        As of `subprocess.CompletedProcess`.
    node, host
        Where it ran.
    duration
        Seconds that it ran.
    outputs
        The files that it has left in its private folder, if it had one; see `pconnect.programs.template.program`.
    """

    outputs: JobOutputs = NO_OUTPUTS

    def __init__(  # noqa: PLR0917 - as of its base class, and where it was
        self,
        args: list[str],
        returncode: int,
        stdout: bytes | str,
        stderr: bytes | str,
        node: int | None,
        host: str | None,
        duration: float | None,
    ) -> None:
        super().__init__(args, returncode, stdout, stderr)
        self.node, self.host, self.duration = node, host, duration

    def __repr__(self) -> str:
        place = f", node={self.node}, host={self.host!r}"
        duration = "" if self.duration is None else f", duration={self.duration:.3f}"
        return f"{super().__repr__()[:-1]}{place}{duration})"

    def check_returncode(self) -> None:
        """Raise `ProgramFailedError` if the exit status is not 0."""
        if self.returncode:
            raise ProgramFailedError(self)
