"""Run programs on this machine, for networks in one process, and for program templates called like functions."""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pconnect.files.listing import list_tree
from pconnect.jobs.output_files import pack_outputs, unpack_outputs
from pconnect.programs.completed import CompletedProgram, ProgramTimeoutError
from pconnect.programs.private_folder import PrivateFolder
from pconnect.programs.program import PathLike

HOST = "this process"


def run_here(
    words: Sequence[PathLike],
    data: bytes | str | None,
    node: int | None,
    *,
    cwd: PathLike | None,
    env: Mapping[str, str] | None,
    text: bool,
    check: bool,
    time_limit: float | None = None,
) -> CompletedProgram:
    """Run a program as `pconnect.views.program_views.ProgramView.run` does on one node."""
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
        error = ProgramTimeoutError(
            f"{os.fsdecode(words[0])} timed out after {expired.timeout:g} s (time limit)"
        )
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


def run_in_folder(
    words: Sequence[PathLike],
    data: bytes | str | None,
    files: Mapping[str, tuple[int, bytes]],
    outputs: Sequence[str] | None,
    *,
    env: Mapping[str, str] | None,
    text: bool,
    check: bool,
) -> CompletedProgram:
    """Run a program in a private folder, as a worker does. The `outputs` of the result are the files left there."""
    with tempfile.TemporaryDirectory(prefix="pconnect-") as path:
        folder = PrivateFolder(Path(path), outputs)
        folder.fill(files)
        ended = run_here(
            words, data, None, cwd=path, env={**(env or {}), "PWD": path}, text=text, check=False
        )
        folder.tidy()
        ended.outputs = unpack_outputs(pack_outputs(Path(path), list_tree(Path(path))))
    if check:
        ended.check_returncode()
    return ended
