"""The results of programs, and the errors of programs that failed."""

import shlex
import signal
import subprocess
from typing import Any

from pconnect.errors import ParallelError
from pconnect.jobs.output_files import NO_OUTPUTS, JobOutputs
from srp_tools.printable import printable_text


class ProgramTimeoutError(ParallelError, TimeoutError):
    """A program reached its time limit and was ended. `stdout`, `stderr`: its output until then."""

    stdout: bytes | str | None = None
    stderr: bytes | str | None = None


class ProgramFailedError(ParallelError, subprocess.CalledProcessError):
    """A program ended with a nonzero exit status or by a signal, and the call checks for that.

    It has the attributes of `subprocess.CalledProcessError`, and ``node``, ``host``, ``outputs`` of `CompletedProgram`.
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
        place = "" if self.node is None else f" on node {self.node} ({self.host})"
        said = self.stderr.decode("utf-8", "replace") if isinstance(self.stderr, bytes) else self.stderr
        last = "".join(said.strip().splitlines()[-1:])
        return printable_text(f"{shlex.join(self.cmd)[:100]}{place}: {how}{': ' * bool(last)}{last[:300]}")


class CompletedProgram(subprocess.CompletedProcess[Any]):
    """The result of a program, like that of `subprocess.run`, with the node that ran it.

    Attributes
    ----------
    args, returncode, stdout, stderr
        As in `subprocess.CompletedProcess`.
    node, host
        The node that ran it, by number and host.
    duration
        Its run time in seconds.
    outputs
        The files that it left in its private folder, if it had one; see `pconnect.programs.template.program`.
    """

    outputs: JobOutputs = NO_OUTPUTS

    def __init__(  # noqa: PLR0917 - like its base class
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
