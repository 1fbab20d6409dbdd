"""A replacement for ssh that passes its command to a shell of this machine, as an ssh server does."""

from pathlib import Path

from tests.support.programs import program

#: Login shells, with the Debian package of each, and a start file that prints.
SHELLS = {
    "sh": ("dash", {}),
    "bash": (
        "bash",
        {".bashrc": "echo Welcome; echo careful >&2; shopt -s expand_aliases; alias printf=true\n"},
    ),
    "tcsh": ("tcsh", {".cshrc": "echo Welcome; alias head true; set noclobber\n"}),
    "fish": ("fish", {".config/fish/config.fish": "echo Welcome; function head; true; end\n"}),
}

# Under an ssh server, bash reads its start file, as it otherwise does only at a terminal.
_SSH = """#!/bin/sh
[ "$1" = -G ] && {{ echo "hostname $3"; exit; }}
for line; do :; done
cd {home} && HOME={home} SSH_CLIENT="192.0.2.1 1 22" SHLVL=0 PATH={path} exec {shell} -c "$line"
"""


def make_ssh(folder: Path, shell: str, path: str) -> Path:
    """Return the replacement; `path`: where it finds programs; `folder`: the home."""
    package, files = SHELLS[shell]
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    ssh = folder / "ssh"
    ssh.write_text(_SSH.format(home=folder, shell=program(shell, package), path=path))
    ssh.chmod(0o755)
    return ssh
