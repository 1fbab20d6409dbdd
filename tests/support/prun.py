"""`prun` as users call it: the installed script, with its own agent."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_gone

SCRIPT = Path(sys.executable).with_name("prun")
#: Variables that make the script use Perl wherever that is able to, or Python for everything.
FRONTS: dict[str, dict[str, str]] = {"Perl": {}, "Python": {"PERL_UNICODE": "0"}}


class Started(subprocess.Popen[bytes]):
    """A `prun` that was started; a failing test does not wait for its end."""

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        """Wait for its end; kill it after an error."""
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


@dataclass
class Prun:
    """A user of `prun`. `environment`: of the user's shell; `folder`: holds the configuration and the agents."""

    environment: dict[str, str]
    folder: Path

    def run(
        self,
        *words: str | bytes | Path,
        input: bytes | None = None,  # noqa: A002 - its name in the module `subprocess`
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it and wait for its end."""
        settings = {"capture_output": True, "timeout": DEADLINE, **options}
        return subprocess.run(
            [SCRIPT, *words],
            input=b"" if input is None and "stdin" not in options else input,
            cwd=cwd or self.folder,
            env=self._environment(env),
            check=False,
            **settings,
        )

    def start(self, *words: str | bytes, env: Mapping[str, str] | None = None, **options: Any) -> Started:
        """Start it, with pipes as its streams by default."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        settings: dict[str, Any] = {"cwd": self.folder, **pipes, **options}
        return Started([SCRIPT, *words], env=self._environment(env), **settings)

    def write_rules(self, text: str) -> None:
        """Write the file of rules."""
        path = Path(self.environment["XDG_CONFIG_HOME"]) / "pserver" / "client" / "prun.toml"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(text)

    def agent(self) -> int:
        """Return the process number of the running agent, or 0 if there is none."""
        done = self.run("--agent", "status")
        return int(done.stdout.split()[4].rstrip(b";")) if not done.returncode else 0

    def stop(self) -> None:
        """End the agent."""
        if pid := self.agent():
            self.run("--agent", "stop")
            wait_gone(pid)

    def _environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return {**self.environment, **(env or {})}


@contextlib.contextmanager
def prun_user(folder: Path, servers: Sequence[Server], hosts: str | None = None) -> Iterator[Prun]:
    """Yield a user of some servers; the user's agent ends with the block."""
    for name in ("run", "config"):
        (folder / name).mkdir(mode=0o700, parents=True)
    # Make may be running the tests.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PCONNECT_", "MAKE", "MFLAGS"))
    }
    user = Prun(
        {
            **kept,
            "PCONNECT_HOSTS": " ".join(server.host for server in servers) if hosts is None else hosts,
            "PCONNECT_USER": servers[0].credentials.user,
            "PCONNECT_PASSWORD": servers[0].credentials.password,
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PRUN_IDLE": "300",
        },
        folder,
    )
    try:
        yield user
    finally:
        user.stop()
