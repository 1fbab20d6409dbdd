"""A server as a service, on machines simulated by files."""

import getpass
from collections.abc import Callable
from pathlib import Path

import pytest

from pserver import pserver
from pserver.doctor.checks import Finding, Level
from pserver.doctor.service import check_service
from srp_tools.private_files import server_folder

pytestmark = pytest.mark.usefixtures("places")
MINE = "/user.slice/user-1000.slice/session-3.scope"


class Machine:
    """The files of a simulated machine, on which this process runs in a login session."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/self/cgroup", f"0::{MINE}\n")
        mounted = root / "sys/fs/cgroup"
        self.write("proc/self/mountinfo", f"25 1 0:22 / {mounted} rw - cgroup2 cgroup2 rw\n")
        (root / "run/systemd/system").mkdir(parents=True)

    def write(self, path: str, text: str = "") -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    def linger(self) -> None:
        self.write(f"var/lib/systemd/linger/{getpass.getuser()}")

    def found(self, text: str) -> list[Finding]:
        return [each for each in check_service(self.root) if text in each.text]

    def levels(self, text: str) -> list[Level]:
        return [each.level for each in self.found(text)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def test_without_a_service_it_says_so(machine: Machine) -> None:
    (found,) = machine.found("no service starts a server after a reboot")
    assert (found.level, found.remedy) == (Level.NOTE, "to set one up: pserver install-service")
    assert machine.levels("a server started from here keeps running after a logout") == [Level.OK]


def test_a_service_of_the_system_is_fine(machine: Machine) -> None:
    machine.write("etc/systemd/system/multi-user.target.wants/pserver.service")
    assert machine.levels("starts at boot: pserver.service") == [Level.OK]


def test_a_service_of_the_user_needs_lingering(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(machine.root / "config"))
    machine.write("config/systemd/user/default.target.wants/pserver-night.service")
    (found,) = machine.found("pserver-night.service starts only when this account logs in")
    assert (found.level, found.remedy) == (
        Level.WRONG,
        f"enable lingering: loginctl enable-linger {getpass.getuser()}",
    )
    machine.linger()
    assert machine.levels("because lingering is enabled for this account: pserver-night.service") == [
        Level.OK
    ]


@pytest.mark.parametrize("text", ["KillUserProcesses=yes", "  KillUserProcesses = true"])
def test_a_login_may_end_what_it_has_started(machine: Machine, text: str) -> None:
    machine.write("etc/systemd/logind.conf", f"[Login]\n#KillUserProcesses=no\n{text}\n")
    assert machine.levels("is killed when you log out (KillUserProcesses=yes") == [Level.WRONG]
    machine.write("etc/systemd/logind.conf", "[Login]\n#KillUserProcesses=yes\n")
    assert machine.levels("is killed when you log out") == []
    machine.write("etc/systemd/logind.conf.d/site.conf", f"[Login]\n{text}\n")
    assert machine.levels("is killed when you log out") == [Level.WRONG]


def test_a_server_below_the_manager_of_the_user_needs_lingering(machine: Machine) -> None:
    status = pserver(cmd_port=0, data_port=0, bind="127.0.0.1", allow_root=True)
    assert isinstance(status, dict)
    manager = "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope"
    machine.write(f"proc/{status['pid']}/cgroup", f"0::{manager}\n")
    assert machine.levels("the server 'default' stops when this account logs out") == [Level.WRONG]
    machine.linger()
    assert machine.levels("the server 'default' keeps running after a logout") == [Level.OK]


def test_without_systemd_nothing_is_known(machine: Machine) -> None:
    (machine.root / "run/systemd/system").rmdir()
    assert machine.levels("does not run systemd") == [Level.NOTE]


def _delegated(machine: Machine) -> None:
    for name in ("cgroup.procs", "cgroup.controllers"):
        machine.write(f"sys/fs/cgroup{MINE}/{name}", "cpu memory pids\n")


def _without_memory(machine: Machine) -> None:
    _delegated(machine)
    machine.write(f"sys/fs/cgroup{MINE}/cgroup.controllers", "pids\n")


def _of_others(machine: Machine) -> None:
    machine.write(f"sys/fs/cgroup{MINE}/cgroup.controllers", "cpu memory pids\n")


def _of_version_1(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "1:memory:/x\n")


@pytest.mark.parametrize(
    ("make", "level", "text"),
    [
        (_delegated, Level.OK, "limits apply to whole sessions"),
        (_without_memory, Level.NOTE, "session-3.scope has no memory, cpu"),
        (_of_others, Level.NOTE, "session-3.scope is not delegated to this account"),
        (_of_version_1, Level.NOTE, "because this machine has no cgroups of version 2"),
        (lambda _: None, Level.NOTE, "its cgroup is unreadable"),
    ],
)
def test_cgroups(machine: Machine, make: Callable[[Machine], None], level: Level, text: str) -> None:
    make(machine)
    (found,) = machine.found(text)
    assert found.level is level
    assert found.text.startswith("a server started from here: limits apply to ")
    assert ("Delegate=yes" in found.remedy) == (level is not Level.OK)


def test_settings_that_cannot_be_used_are_wrong(machine: Machine) -> None:
    path = server_folder() / "pserver.toml"
    path.write_text("slots = 2\n")
    path.chmod(0o600)
    assert machine.levels(f"settings {path}") == [Level.OK]
    assert machine.levels("results of detached networks: ") == [Level.OK]
    path.write_text("slotz = 2\n")
    (found,) = machine.found("the settings of a server are invalid")
    assert (found.level, "did you mean slots" in found.remedy) == (Level.WRONG, True)


def test_a_log_that_cannot_be_written_is_wrong(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PSERVER_LOG_FILE", str(tmp_path / "file/log"))
    assert machine.levels(f"the log: {tmp_path}/file: cannot be written") == [Level.WRONG]


def test_a_clock_in_the_past_is_wrong(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len([*machine.found("no time service"), *machine.found("a time service sets the clock")]) == 1
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert machine.levels("the clock is wrong") == [Level.WRONG]
