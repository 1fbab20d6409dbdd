"""The client on macOS and Windows, as far as Python's modules and functions differ there.

A program loads the standard library and third-party packages, and then removes everything that another system lacks.
The client and `srp_tools`, which it loads afterwards, see the same as on that system.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import Server
from tests.support.waiting import DEADLINE

# By system: the modules, and names in modules, that it lacks.
NOT_ON_MACOS = {
    "resource": "*",  # it has these, with other limits
    "os": "memfd_create eventfd pidfd_open sched_getaffinity sched_setaffinity sched_getscheduler O_PATH O_TMPFILE "
    "getrandom posix_fadvise splice copy_file_range setns unshare MFD_CLOEXEC",
    "signal": "pidfd_send_signal sigtimedwait SIGRTMIN SIGSTKFLT SIGPOLL",
    "select": "epoll",
    "selectors": "EpollSelector",
    "socket": "TCP_INFO TCP_KEEPIDLE TCP_USER_TIMEOUT TCP_CORK SO_PEERCRED SCM_RIGHTS SCM_CREDENTIALS send_fds "
    "recv_fds SOCK_CLOEXEC SOCK_NONBLOCK MSG_NOSIGNAL SO_DOMAIN SO_PROTOCOL AF_NETLINK",
    "mmap": "MAP_POPULATE",
}
NOT_ON_WINDOWS = NOT_ON_MACOS | {
    "fcntl": "*",
    "grp": "*",
    "pwd": "*",
    "termios": "*",
    "os": NOT_ON_MACOS["os"]
    + " fork forkpty register_at_fork geteuid getuid getegid getgid getgroups uname confstr "
    "sysconf sendfile fchown chown mkfifo setsid setpgid killpg wait3 wait4 waitid O_NOFOLLOW O_DIRECTORY O_CLOEXEC "
    "O_NONBLOCK O_SYNC getloadavg nice getpgid WNOHANG",
    "signal": NOT_ON_MACOS["signal"]
    + " SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGCHLD SIGPIPE SIGALRM SIGSTOP SIGCONT SIGQUIT "
    "pthread_sigmask pthread_kill setitimer siginterrupt sigpending sigwait alarm pause",
    "select": "epoll poll",
    "selectors": "EpollSelector PollSelector",
    "socket": NOT_ON_MACOS["socket"] + " AF_UNIX sendmsg_afalg CMSG_LEN CMSG_SPACE MSG_DONTWAIT SO_REUSEPORT",
    "mmap": "MAP_POPULATE MAP_SHARED MAP_PRIVATE PROT_READ PROT_WRITE",
}
TAKE_AWAY = """
import asyncio, importlib, json, os, pkgutil, selectors, select, socket, sys
import pconnect, srp_tools
for package in (srp_tools, pconnect):  # with all packages that they import
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.startswith(("pconnect.notebook", "pconnect.dask")):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if error.name != "torch":  # torch may be missing here, too
                    raise
for name in [name for name in sys.modules if name.split(".")[0] in {"pconnect", "srp_tools", "pserver"}]:
    del sys.modules[name]
platform, missing, folder, host, user, password = sys.argv[1], json.loads(sys.argv[2]), *sys.argv[3:]
pair, unix = socket.socketpair, socket.AF_UNIX
socket.socketpair = lambda: pair(unix)  # Windows emulates it
for module, names in missing.items():
    if names == "*":
        sys.modules[module] = None
    else:
        for name in names.split():
            vars(importlib.import_module(module)).pop(name, None)
selectors.DefaultSelector = selectors.PollSelector if hasattr(select, "poll") else selectors.SelectSelector
def refuse(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith("/proc"):
        raise FileNotFoundError(arguments[0])
sys.addaudithook(refuse)
sys.platform = platform
"""
WORK = """
from pathlib import Path
import numpy as np
import pconnect, srp_tools
for package in (pconnect, srp_tools):
    for name in package.__all__:
        getattr(package, name)
assert sys.modules["pconnect.connect"].__file__
folder = Path(folder)
written = srp_tools.Credentials(user, password)
srp_tools.save_credentials(written, folder / "client" / "credentials")
assert srp_tools.load_credentials(folder / "client" / "credentials") == written
srp_tools.VerifierFile(folder / "server" / "tpasswd").add(srp_tools.make_verifier(written, 2048))
with pconnect.pconnect([host] * 2, user=user, password=password, timeout=40) as net:
    assert [node.transport for node in net[1:]] == ["tls", "tls"]
    large = np.arange(3 * 10**6)
    net.push(a=large, timeout=40)
    assert all((part == large).all() for part in net.pull("a", timeout=40))
    command = pconnect.reval("psend(precv(sockets[0]).sum(), sockets[0])", net)
    pconnect.psend(large, net, timeout=40)
    assert [pconnect.precv(node, timeout=40) for node in net[1:]] == [large.sum()] * 2
    command.result(40)
    assert list(net.map(lambda x: x * x, range(5))) == [0, 1, 4, 9, 16]
    async def wait():
        return await net[1].eval("sockets.node"), await net.submit(pow, 2, 10)
    assert asyncio.run(wait()) == (1, 1024)
    net[1].put(folder / "client", "there")
    net[1].get("there", folder / "back")
    assert (folder / "back" / "credentials").read_bytes() == (folder / "client" / "credentials").read_bytes()
    assert len(net.info()) == 3
    pconnect.restart(net[2], timeout=40)
    assert net.eval("sockets.node").result(40) == [1, 2]
try:
    pconnect.start_local_network(1)
except pconnect.ConfigurationError as error:
    assert "Linux" in str(error), error
else:
    raise AssertionError("a server without Linux")
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "missing"), [("darwin", NOT_ON_MACOS), ("win32", NOT_ON_WINDOWS)], ids=["macos", "windows"]
)
def test_the_client_works_without_linux(
    server: Server, tmp_path: Path, platform: str, missing: dict[str, str]
) -> None:
    done = subprocess.run(
        [
            sys.executable, "-c", TAKE_AWAY + WORK, platform, json.dumps(missing), tmp_path, server.host,
            server.credentials.user, server.credentials.password,
        ],
        check=False, capture_output=True, text=True, timeout=2 * DEADLINE, env=os.environ | {"HOME": str(tmp_path)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("done\n", "")


COMMAND = """
import pserver.command
sys.exit(pserver.command.main(["start"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "missing"), [("darwin", NOT_ON_MACOS), ("win32", NOT_ON_WINDOWS)], ids=["macos", "windows"]
)
def test_the_command_of_servers_says_that_it_needs_linux(
    tmp_path: Path, platform: str, missing: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TAKE_AWAY + COMMAND, platform, json.dumps(missing), tmp_path, "host", "user", "word"],
        check=False, capture_output=True, text=True, timeout=DEADLINE, env=os.environ | {"HOME": str(tmp_path)},
    )  # fmt: skip
    said = f"pserver: servers run on Linux only, and this is {platform}; to use servers on other machines, "
    assert (done.returncode, done.stderr) == (69, f"{said}call pconnect.pconnect(hosts) in Python\n")
