"""The page for administrators, step by step: root on three machines, two accounts, and a stand-in for systemd.

The test follows the page, with the exceptions listed in `test_first_steps`. A stand-in for ``systemctl`` and
``journalctl`` starts the command of a unit, sends the signals that the unit names, and shows the log.
"""

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.accounts import needs_root
from tests.support.machines import Machine
from tests.support.own_accounts import NUMBERS, in_own_accounts, passable_folder
from tests.support.pages import Block, check, read_blocks
from tests.support.programs import program
from tests.support.tutorial import ROOT, WITHOUT_INDEX, copy_source
from tests.support.waiting import DEADLINE

PAGE = ROOT / "doc/howto/administer.md"
ADDRESSES = {name: f"10.78.0.{number}" for number, name in enumerate(("alpha", "beta", "gamma"), 1)}
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
mkdir -p -m 700 /tmp/pserver-0
mount -t tmpfs -o mode=700 tmpfs /tmp/pserver-0
ip link set lo up
echo "$1" > /proc/sys/kernel/hostname
cp "$0/hosts" /etc/hosts
cp "$0/ssh_config" /etc/ssh/ssh_config
mkdir /run/sshd
shift
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
if word == "daemon-reload":
    sys.exit()
name = sys.argv[-1]
path, state = Path(f"/etc/systemd/system/{{name}}.service"), Path(f"/run/{{name}}")
unit = Unit(path.read_text())
if word in ("enable", "start") and unit.one("Type") == "simple":
    command = ["setpriv", "--reuid", unit.one("User"), "--regid", unit.one("User"), "--clear-groups", *unit.command]
    with open("/run/journal", "ab") as journal:
        process = subprocess.Popen(command, env={{"PATH": "/usr/bin:/bin", "HOME": "/home/" + unit.one("User")}},
            stdin=subprocess.DEVNULL, stdout=journal, stderr=journal, start_new_session=True)
    state.write_text(str(process.pid))
    sys.exit()
if word in ("enable", "start"):
    Path("/run/notify").unlink(missing_ok=True)  # of an earlier start
    with Manager("/run/notify") as manager, open("/run/journal", "ab") as journal:
        process = subprocess.Popen(unit.command, env={{"PATH": "/usr/bin:/bin", **manager.environment()}},
            stdin=subprocess.DEVNULL, stdout=journal, stderr=journal, start_new_session=True)
        try:
            manager.await_word("READY")
        except AssertionError as error:
            sys.exit(f"{{error}}: {{open('/run/journal').read()}}")
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


# Appends to the files: /etc/passwd is a mount, so the real command cannot replace it.
_USERADD = """#!/bin/sh
echo "$2:x:30003:30003::/home/$2:/bin/sh" >> /etc/passwd
echo "$2:x:30003:" >> /etc/group
mkdir -m 700 "/home/$2" && chown 30003:30003 "/home/$2"
"""
_SSH_CONFIG = """\
Host *
    IdentityFile {folder}/key
    StrictHostKeyChecking accept-new
    UserKnownHostsFile {folder}/known
    LogLevel ERROR
"""
_SSHD_CONFIG = """\
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
PidFile none
UsePAM no
Subsystem sftp internal-sftp
SetEnv {variables}
"""
# Root's home is a folder of the test.
_OWN_HOME = (
    r"sed 's|^\(root:[^:]*:0:0:[^:]*\):[^:]*:[^:]*$|\1:{home}:/bin/bash|' /etc/passwd > {home}/passwd && "
)
_OWN_HOME += "cat {home}/passwd > /etc/passwd"


@pytest.fixture
def alpha() -> Iterator[Machine]:
    """Yield the first of three machines, from which root reaches the others by ssh."""
    with passable_folder() as folder, ExitStack() as stack:
        _prepare(folder)
        pids: dict[str, int] = {}
        machines = {}
        for name in ADDRESSES:
            machines[name], pids[name] = _run_machine(stack, folder, name)
        _connect(pids)
        sshd = program("sshd", "openssh-server")
        for machine in machines.values():
            machine.run(_OWN_HOME.format(home=machine.home))
            machine.run(f"{sshd} -f {folder}/sshd_config -E {machine.home}/sshd.log")
        yield machines["alpha"]


def _prepare(folder: Path) -> None:
    """Write the files that all machines share."""
    (folder / "bin").mkdir(mode=0o755)
    commands = {
        "systemctl": _SYSTEMCTL.format(python=sys.executable, root=str(ROOT)),
        "journalctl": "#!/bin/sh\nexec cat /run/journal\n",
        "python3": f'#!/bin/sh\n"{sys.executable}" "$@" || exit\n'
        f'case "$*" in "-m venv "*) exec "{sys.executable}" -c {shlex.quote(_LEND)};; esac\n',
        "useradd": _USERADD,
    }
    for name, text in commands.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    keygen = program("ssh-keygen", "openssh-client")
    subprocess.run(
        [keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True, timeout=DEADLINE
    )
    variables = " ".join(f"{name}={text}" for name, text in _environment(folder).items())
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in ADDRESSES.items())]
    for name, text in {
        "hosts": "\n".join(lines) + "\n",
        "ssh_config": _SSH_CONFIG.format(folder=folder),
        "sshd_config": _SSHD_CONFIG.format(folder=folder, variables=variables),
    }.items():
        (folder / name).write_text(text)


def _environment(folder: Path) -> dict[str, str]:
    path = f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return {"PATH": path, "LANG": "C.UTF-8", "TERM": "dumb", "COLUMNS": "200"} | WITHOUT_INDEX


def _run_machine(stack: ExitStack, folder: Path, name: str) -> tuple[Machine, int]:
    """Run a machine until everything ends; return it and a process in its network namespace."""
    own = folder / name
    own.mkdir(mode=0o711)
    for file in ("hosts", "ssh_config"):
        (own / file).write_text((folder / file).read_text())
    (own / "home").mkdir()
    if name == "alpha":
        copy_source(own / "home" / "pserver")
    command = [*_SPACES, _PRIVATE, str(own), name, *in_own_accounts(own, _BASH)]
    ours, theirs = os.openpty()
    stack.callback(os.close, ours)
    environment = _environment(folder) | {"HOME": str(own / "home")}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    stack.callback(process.wait, DEADLINE)
    stack.callback(process.kill)
    machine = Machine(name, own / "home", ours)
    machine.run("stty -echo")
    machine.run("cd")
    return machine, process.pid


def _connect(pids: dict[str, int]) -> None:
    """Connect the machines by cables to a bridge on the first one, which has its address on the bridge."""

    def run(name: str, command: str) -> None:
        enter = ["nsenter", f"--net=/proc/{pids[name]}/ns/net"]
        subprocess.run([*enter, "ip", *command.split()], check=True, timeout=DEADLINE)

    hub, *others = pids
    run(hub, "link add lan type bridge")
    for name in others:
        run(hub, f"link add {name} type veth peer name lan netns {pids[name]}")
        run(hub, f"link set {name} master lan up")
    for name in pids:
        run(name, f"addr add {ADDRESSES[name]}/24 dev lan")
        run(name, "link set lan up")


@needs_root
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_does_what_it_says(alpha: Machine) -> None:
    for block in read_blocks(PAGE):
        if block.kind == "toml":
            alpha.run(f"printf %s {shlex.quote(block.text)} > /etc/pserver/pserver.toml")
        if block.kind == "ini":
            text = shlex.quote(f"{block.text}Type=simple\n")  # the default of systemd
            alpha.run(f"printf %s {text} > /etc/systemd/system/pserver-page.service")
        if block.kind == "console":
            _type(alpha, block)


def _type(alpha: Machine, block: Block) -> None:
    """Type the lines of a block, and compare their output with the page."""
    answers = [
        (text, f"{PASSWORD}\n")
        for text in ("for alice: ", "for bob: ", "Repeat the password: ", "Password: ")
    ]
    for prompt, line, said in typed(block.text):
        shown = alpha.run(f"{_AS_ALICE} {line}" if prompt == "alice$" else line, answers)
        check(f"{block.place}, {prompt} {line}", said, shown)


def typed(text: str) -> Iterator[tuple[str, str, str]]:
    """Return prompt, line and output of each line; a line with open quotes continues on the next one."""
    starts = [*(found.start() for found in _PROMPT.finditer(text)), len(text)]
    assert starts[0] == 0
    for begin, end in itertools.pairwise(starts):
        prompt, _, rest = text[begin:end].partition(" ")
        lines = rest.splitlines(keepends=True)
        count = next(n for n in range(1, len(lines) + 1) if "".join(lines[:n]).count('"') % 2 == 0)
        yield prompt, "".join(lines[:count]).rstrip("\n"), "".join(lines[count:])
