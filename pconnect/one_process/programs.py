"""Programs of a network in one process: they run on this machine."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pconnect.one_process.node import HOST
from pconnect.programs.program import CompletedProgram, PathLike, ProgramTimeoutError


def run_here(
    words: Sequence[PathLike],
    data: bytes | str | None,
    node: int,
    *,
    cwd: PathLike | None,
    env: Mapping[str, str] | None,
    text: bool,
    check: bool,
    time_limit: float | None,
) -> CompletedProgram:
    """Do what `pconnect.views.program_views.ProgramView.run` does with a program, at one node."""
    given = data.encode() if isinstance(data, str) else bytes(data or b"")

    def shown(written: Any) -> bytes | str:
        return (written or b"").decode("utf-8", "replace") if text else written or b""

    begin = time.monotonic()
    try:
        done = subprocess.run(
            words,
            input=given,
            capture_output=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            timeout=time_limit,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        error = ProgramTimeoutError(f"{os.fsdecode(words[0])} was ended at its time limit")
        error.stdout, error.stderr = shown(expired.stdout), shown(expired.stderr)
        raise error from None
    ended = CompletedProgram(
        [os.fsdecode(word) for word in words],
        done.returncode,
        shown(done.stdout),
        shown(done.stderr),
        node,
        HOST,
        time.monotonic() - begin,
    )
    if check:
        ended.check_returncode()
    return ended
