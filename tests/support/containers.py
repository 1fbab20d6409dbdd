"""A stand-in for a builder of containers: it follows a Containerfile step by step, in a copy of this machine's files.

The copy is an overlay in a mount namespace, so nothing that a step does stays. The first step, whose image would have to
be downloaded, is this machine with a Python and pip of its own; pip finds the wheels that are given, and no index.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {"FROM", "ARG", "RUN", "COPY", "USER", "WORKDIR", "EXPOSE", "ENTRYPOINT"}


@dataclass
class Image:
    """What the steps of a file say."""

    steps: list[tuple[str, str]] = field(default_factory=list)  #: each instruction with its rest

    @classmethod
    def read(cls, path: Path) -> "Image":
        """Read a file. Raises `AssertionError` if it has an instruction that this stand-in has not."""
        text = path.read_text().replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        image = cls([(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines])
        assert {name for name, _ in image.steps} <= KNOWN
        return image

    def last(self, name: str) -> str:
        """Return the rest of the last instruction of a kind."""
        return [rest for key, rest in self.steps if key == name][-1]

    @property
    def entry(self) -> list[str]:
        """The command that a container runs."""
        command: list[str] = json.loads(self.last("ENTRYPOINT"))
        return command

    def build_script(self, context: Path) -> list[str]:
        """Return the lines of a shell that do the steps, from inside of the copy."""
        lines = ["set -eu"]
        for name, rest in self.steps:
            match name:
                case "ARG":
                    lines.append(rest)
                case "RUN":
                    lines.append(f"( {rest} )")
                case "COPY":
                    *sources, target = rest.split()
                    lines.append(f"mkdir -p {target}")
                    lines += [f"cp {shlex.quote(str(context))}/{source} {target}" for source in sources]
        return lines


def in_container(
    image: Image, context: Path, wheels: Path, place: Path, mounts: Sequence[tuple[Path, str]]
) -> list[str]:
    """Return a command line that builds an image and runs a container of it; options follow.

    `context`: the folder of the build. `wheels`: what pip finds. `place`: an empty folder. `mounts`: folders of this
    machine, and where the container has them.
    """
    base = place / "base"
    subprocess.run([sys.executable, "-m", "venv", str(base)], check=True, timeout=120)
    user, folder = image.last("USER"), image.last("WORKDIR")
    build = "\n".join(image.build_script(context))
    variables = f"PATH={base}/bin:/usr/sbin:/usr/bin:/sbin:/bin PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels}"
    lines = [
        "set -eu",
        f"mount -t tmpfs -o mode=755 tmpfs {place}/layer",
        f"mkdir {place}/layer/upper {place}/layer/work {place}/layer/root",
        f"mount -t overlay -o lowerdir=/,upperdir={place}/layer/upper,workdir={place}/layer/work overlay "
        f"{place}/layer/root",
        f"R={place}/layer/root",
        *(f"mount --rbind /{name} $R/{name}" for name in ("dev", "proc", "sys")),
        # The copy has files of its own for what is written; where the build's files are stays as it is.
        "mount -t tmpfs -o mode=1777 tmpfs $R/var/tmp",
        f"env -i {variables} chroot $R sh -c {shlex.quote(build)} >&2",
    ]
    for source, target in mounts:
        lines += [f"mkdir -p $R{target}", f"mount --bind {source} $R{target}"]
    run = f'cd {folder}; exec {shlex.join(image.entry)} "$@"'
    lines.append(
        f'exec env -i {variables} HOME=/home/{user} USER={user} chroot --userspec={user} $R sh -c {shlex.quote(run)} sh "$@"'
    )
    (place / "layer").mkdir()
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines), "sh"]
