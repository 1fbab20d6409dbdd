"""The page for administrators, step by step: root on a machine, two accounts, and a stand-in for systemd.

The test follows the page, with the exceptions listed in `test_first_steps`. A stand-in for ``systemctl`` and
``journalctl`` starts the command of the unit, sends the signals that the unit names, and shows the log.
"""

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.accounts import needs_root
from tests.support.machines import Machine
from tests.support.own_accounts import NUMBERS, in_own_accounts, passable_folder
from tests.support.pages import check, read_blocks
from tests.support.tutorial import ROOT, WITHOUT_INDEX, copy_source
from tests.support.waiting import DEADLINE

PAGE = ROOT / "doc/howto/administer.md"
PASSWORD = "correct horse battery"
_PROMPT = re.compile(r"^(alpha#|alice\$) ", re.MULTILINE)

# The test has private copies of the folders that the administrator changes.
_PRIVATE = """
for place in /etc /opt /var/lib; do
    name=$(echo "$place" | tr / _)
    mkdir -p "$0/upper$name" "$0/work$name"
    mount -t overlay overlay -o "lowerdir=$place,upperdir=$0/upper$name,workdir=$0/work$name" "$place"
done
mount -t tmpfs tmpfs /run
ip link set lo up
echo alpha > /proc/sys/kernel/hostname
echo "127.0.0.1 localhost alpha" > /etc/hosts
exec "$@"
"""

_SPACES = [
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--net",
    "--uts",
    "--pid",
    "--fork",
    "--kill-child",
]
_SPACES += ["--mount-proc", "bash", "-euc"]
_BASH = [
    "env",
    "PS1=",
    "PS2=",
    "setsid",
    "--ctty",
    "bash",
    "--norc",
    "--noprofile",
    "--noediting",
    "+H",
    "+m",
]
_AS_ALICE = (
    f"setpriv --reuid={NUMBERS['alice']} --regid={NUMBERS['alice']} --clear-groups env HOME=/home/alice"
)
_LEND = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.support.tutorial import lend_packages
lend_packages(Path("/opt/pserver"))
"""

_SYSTEMCTL = """#!{python}
import os, signal, socket, subprocess, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.support.service_manager import Manager, Unit
word = sys.argv[1]
path, state = Path("/etc/systemd/system/pserver.service"), Path("/run/service")
if word == "daemon-reload":
    sys.exit()
unit = Unit(path.read_text())
if word == "enable":
    with Manager("/run/notify") as manager, open("/run/journal", "ab") as journal:
        process = subprocess.Popen(unit.command, env={{"PATH": "/usr/bin:/bin", **manager.environment()}},
            stdin=subprocess.DEVNULL, stdout=journal, stderr=journal, start_new_session=True)
        manager.await_word("READY")
    state.write_text(str(process.pid))
    sys.exit()
pid = int(state.read_text())
if word == "reload":
    command = [each.replace("$MAINPID", str(pid)) for each in unit.words("ExecReload")]
    sys.exit(subprocess.run(command).returncode)
os.kill(pid, signal.SIGTERM)
while Path(f"/proc/{{pid}}").exists():
    time.sleep(0.01)
"""


@pytest.fixture
def alpha() -> Iterator[Machine]:
    with passable_folder() as folder, ExitStack() as stack:
        commands = {
            "systemctl": _SYSTEMCTL.format(python=sys.executable, root=str(ROOT)),
            "journalctl": "#!/bin/sh\nexec cat /run/journal\n",
            "python3": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
        }
        (folder / "bin").mkdir(mode=0o755)
        for name, text in commands.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        copy_source(folder / "home" / "pserver")
        environment = {
            "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "COLUMNS": "200",
        } | WITHOUT_INDEX
        command = [*_SPACES, _PRIVATE, str(folder), *in_own_accounts(folder, _BASH)]
        ours, theirs = os.openpty()
        stack.callback(os.close, ours)
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        stack.callback(process.wait, DEADLINE)
        stack.callback(process.kill)
        machine = Machine("alpha", folder / "home", ours)
        machine.run("stty -echo")
        machine.run("cd")
        yield machine


@needs_root
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_does_what_it_says(alpha: Machine) -> None:
    answers = [
        (text, f"{PASSWORD}\n")
        for text in ("for alice: ", "for bob: ", "Repeat the password: ", "Password: ")
    ]
    for block in read_blocks(PAGE):
        if block.kind == "toml":
            alpha.run(f"printf %s {shlex.quote(block.text)} > /etc/pserver/pserver.toml")
        if block.kind != "console":
            continue
        for prompt, line, said in typed(block.text):
            shown = alpha.run(f"{_AS_ALICE} {line}" if prompt == "alice$" else line, answers)
            check(f"{block.place}, {prompt} {line}", said, shown)
            if "-m venv" in line:
                alpha.run(f"{sys.executable} -c {shlex.quote(_LEND)}")


def typed(text: str) -> Iterator[tuple[str, str, str]]:
    """Return prompt, line and output of each line; a line with open quotes continues on the next one."""
    starts = [*(found.start() for found in _PROMPT.finditer(text)), len(text)]
    assert starts[0] == 0
    for begin, end in itertools.pairwise(starts):
        prompt, _, rest = text[begin:end].partition(" ")
        lines = rest.splitlines(keepends=True)
        count = next(n for n in range(1, len(lines) + 1) if "".join(lines[:n]).count('"') % 2 == 0)
        yield prompt, "".join(lines[:count]).rstrip("\n"), "".join(lines[count:])
