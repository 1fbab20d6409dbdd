"""``pstat --serve``: the servers of this account, and servers reached by login."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from pconnect.errors import ConnectionLostError
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until

COMMAND = [sys.executable, "-c", "import sys; from pserver.pstat.cli import main; sys.exit(main())"]


@contextlib.contextmanager
def shown(variables: Mapping[str, str], *words: str) -> Iterator[str]:
    """Run the command; yield the address of its page."""
    command = [*COMMAND, *words, "--serve", "127.0.0.1:0"]
    with subprocess.Popen(command, env=dict(variables), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.fullmatch(r"The page is at (http://\S+)\n", process.stdout.readline())
            assert found
            yield found[1]
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE) == 130
        finally:
            process.kill()  # otherwise, after a failure, `Popen` would wait for it until the whole run times out


def ask(url: str, path: str, body: object = None) -> Any:
    address, _, token = url.partition("?token=")
    headers = {"X-Pserver-Token": token, "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(address + path, data=data, headers=headers), timeout=DEADLINE) as answer:
        return json.load(answer)


def ask_until_up(url: str) -> list[Any]:
    """Return the page's data once its first server has answered: a login may take longer than the page waits."""
    newest: list[Any] = []

    def is_up() -> bool:
        newest[:] = ask(url, "api/statistics")["servers"]
        return bool(newest[0]["is_up"])

    wait_until(is_up, "the server to answer")
    return newest


def is_lost(net: ClientNetwork) -> bool:
    try:
        net.eval("1").result(DEADLINE)
    except ConnectionLostError:
        return True
    return False


def test_servers_of_this_account_and_hosts_with_a_login(asked: Server, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text(f"{asked.credentials.user}:{asked.credentials.password}\n")
    runtime = dict.fromkeys(("XDG_RUNTIME_DIR", "PSERVER_RUNTIME_DIR"), str(asked.folder))
    variables = os.environ | {"XDG_CONFIG_HOME": str(tmp_path), "PCONNECT_CREDENTIALS": str(password)}
    with shown(variables | runtime) as url:
        (server,) = ask_until_up(url)
        assert server["document"]["server"]["pid"] == asked.process.pid
    with shown(variables, asked.host, "127.0.0.1:1") as url, asked.connect() as net:
        server, nobody = ask_until_up(url)
        assert (
            server["document"]["server"]["pid"] == asked.process.pid and server["document"]["samples"]["rows"]
        )
        assert nobody == {"server": "127.0.0.1:1", "is_up": False, "document": None, "error": nobody["error"]}
        (session,) = asked.sessions(net)
        done = ask(url, "api/stop", {"server": server["server"], "session": session})
        assert done == {"done": f"Ended session {session} of alice."}
        wait_until(lambda: is_lost(net), "the end of the session")


def test_there_must_be_something_to_show(tmp_path: Path) -> None:
    variables = os.environ | dict.fromkeys(("XDG_CONFIG_HOME", "PSERVER_RUNTIME_DIR"), str(tmp_path))
    done = subprocess.run(
        [*COMMAND, "--serve"], env=variables, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 1 and "no server of this account is running here" in done.stderr
