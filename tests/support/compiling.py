"""A machine that compiles for others, as `pconnect.shadow.compile_step` sees it: another folder and environment."""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pconnect.shadow.compile_step import RemoteEnd


@dataclass
class OtherFolder:
    """Runs what it is given in an empty folder, with nothing of the environment but what a server has.

    Attributes
    ----------
    place
        Where its folders are made.
    programs
        A folder whose programs come before those of the system.
    runs
        The words that it has run.
    """

    place: Path
    programs: Path | None = None
    runs: list[list[str]] = field(default_factory=list)

    def run(
        self,
        words: Sequence[str],
        source: bytes,
        *,
        files: Mapping[str, bytes],
        environment: Mapping[str, str],
        output: str,
    ) -> RemoteEnd:
        self.runs.append(list(words))
        path = os.pathsep.join([*([str(self.programs)] if self.programs else []), os.defpath])
        with tempfile.TemporaryDirectory(dir=self.place) as folder:
            for name, data in files.items():
                file = Path(folder, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            ended = subprocess.run(
                words,
                input=source,
                cwd=folder,
                env={"PATH": path, **environment},
                capture_output=True,
                check=False,
                timeout=120,
            )
            left = Path(folder, output)
            outputs = {output: left.read_bytes()} if left.exists() else {}
        status = ended.returncode if ended.returncode >= 0 else 128 - ended.returncode
        return RemoteEnd(status, ended.stdout, ended.stderr, outputs, "the other folder")
