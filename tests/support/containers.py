"""A stand-in for a container builder: it follows a Containerfile step by step in a copy of this machine's files.

The copy is an overlay in a mount namespace, so no step has a lasting effect. The base image would have to be
downloaded, so this machine with its own Python and pip replaces it. pip finds only the given wheels, and no index.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {"FROM", "ARG", "RUN", "COPY", "USER", "WORKDIR", "EXPOSE", "ENTRYPOINT"}


@dataclass
class Image:
    """The steps of a Containerfile."""

    steps: list[tuple[str, str]] = field(default_factory=list)  #: each instruction with its arguments

    @classmethod
    def read(cls, path: Path) -> "Image":
        """Read a file. Raises `AssertionError` for an instruction that this stand-in does not know."""
        text = path.read_text().replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        image = cls([(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines])
        assert {name for name, _ in image.steps} <= KNOWN
        return image

    def last(self, name: str) -> str:
        """Return the arguments of the last instruction of a kind."""
        return [rest for key, rest in self.steps if key == name][-1]

    @property
    def entry(self) -> list[str]:
        """The command that a container runs."""
        command: list[str] = json.loads(self.last("ENTRYPOINT"))
        return command

    def build_script(self, context: Path, arguments: Mapping[str, str]) -> list[str]:
        """Return the shell commands that carry out the steps inside the copy; `arguments`: build arguments."""
        lines = ["set -eu"]
        for name, rest in self.steps:
            match name:
                case "ARG":
                    variable, _, default = rest.partition("=")
                    lines.append(f"{variable}={shlex.quote(arguments.get(variable, default))}")
                case "RUN":
                    lines.append(f"( {rest} )")
                case "COPY":
                    *sources, target = rest.split()
                    lines.append(f"mkdir -p {target}")
                    lines += [f"cp {shlex.quote(str(context))}/{source} {target}" for source in sources]
        return lines


def in_container(
    image: Image, folder: Path, mounts: Sequence[tuple[Path, str]], arguments: Mapping[str, str]
) -> list[str]:
    """Return a command line that builds an image and runs a container; append the container's options to it.

    `folder`: contains `context`, the source of the build's copies, and `wheels` for pip; this function uses the rest.
    `mounts`: folders of this machine and their places in the container. `arguments`: build arguments.
    """
    base, root = folder / "base", folder / "layer" / "root"
    subprocess.run([sys.executable, "-m", "venv", str(base)], check=True, timeout=120)
    (folder / "layer").mkdir()
    user = image.last("USER")
    build = "\n".join(image.build_script(folder / "context", arguments))
    run = f'cd {image.last("WORKDIR")}; exec {shlex.join(image.entry)} "$@"'
    variables = f"PATH={base}/bin:/usr/sbin:/usr/bin:/sbin:/bin PIP_NO_INDEX=1 PIP_FIND_LINKS={folder}/wheels"
    closed = [each for each in Path(sys.base_prefix).parents if not each.stat().st_mode & 0o001]
    lines = [
        "set -eu",
        f"cd {folder}/layer",
        "mount -t tmpfs -o mode=755 tmpfs .",
        f"cd {folder}/layer; mkdir upper work root",
        "mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root",
        *(f"mount --rbind /{name} root/{name}" for name in ("dev", "proc", "sys")),
        # Python's home may be in a folder that only root can enter. In an image it is not.
        *(f"chmod o+x root{path}" for path in closed),
        f"env -i {variables} chroot root sh -c {shlex.quote(build)} >&2",
    ]
    for source, target in mounts:
        lines += [f"mkdir -p root{target}", f"mount --bind {source} root{target}"]
    lines.append(
        f"exec env -i {variables} HOME=/home/{user} USER={user} "
        f'chroot --userspec={user} {root} sh -c {shlex.quote(run)} sh "$@"'
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines), "sh"]
