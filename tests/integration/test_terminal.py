"""Ctrl-C at a terminal, in plain Python and in IPython: the prompt returns soon, and the network survives."""

import os
import sys
import time
from collections.abc import Iterator

import pexpect
import pytest

from tests.support.clients import wait_asleep
from tests.support.servers import Server

DEADLINE = 60.0
# The time that a busy machine may take instead of a second.
SOON = 10.0
PLAIN = [sys.executable, "-q", "-i", "-c", "import sys; sys.ps1, sys.ps2 = 'ready> ', 'more> '"]
SIMPLE = [
    sys.executable,
    "-m",
    "IPython",
    "--simple-prompt",
    "--no-banner",
    "--no-confirm-exit",
    "--colors=NoColor",
]


class Terminal:
    """A prompt at a pseudo-terminal."""

    def __init__(self, command: list[str], prompt: str, server: Server, folder: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment |= {
            "PCONNECT_USER": server.credentials.user,
            "PCONNECT_PASSWORD": server.credentials.password,
            "IPYTHONDIR": folder,
            "TERM": "dumb",
            "PYTHON_HISTORY": os.path.join(folder, "history"),  # noqa: PTH118 - a text for the environment
            "PYTHON_BASIC_REPL": "1",
        }
        self.prompt = prompt
        self.child = pexpect.spawn(
            command[0], command[1:], env=environment, timeout=DEADLINE, encoding="utf-8"
        )
        self.child.setecho(False)
        self.child.expect(prompt)

    def run(self, line: str) -> str:
        """Type a line; return the output before the next prompt."""
        self.child.sendline(line)
        return self.rest()

    def rest(self) -> str:
        """Return the output before the next prompt."""
        self.child.expect(self.prompt)
        return str(self.child.before)

    def begin(self, line: str, *words: str) -> None:
        """Type a line and wait until its engines have printed some words."""
        self.child.sendline(line)
        for word in words:
            self.child.expect_exact(word)

    def ctrl_c(self) -> tuple[str, float]:
        """Press Ctrl-C while the client waits; return the output up to the next prompt, and the seconds it took."""
        wait_asleep(self.child.pid)
        begin = time.monotonic()
        self.child.sendintr()
        return self.rest(), time.monotonic() - begin

    def close(self) -> None:
        """End the program."""
        self.child.close(force=True)


@pytest.fixture(params=["python", "ipython"])
def terminal(request: pytest.FixtureRequest, server: Server, tmp_path: object) -> Iterator[Terminal]:
    command, prompt = (PLAIN, "ready> ") if request.param == "python" else (SIMPLE, r"In \[\d+\]: ")
    made = Terminal(command, prompt, server, str(tmp_path))
    try:
        made.run("import time; from pconnect import *")
        if request.param == "ipython":
            made.run("%load_ext pconnect")
        assert "Error" not in made.run(f"net = pconnect([{server.host!r}] * 2)")
        yield made
        made.run("net.close()")
    finally:
        made.close()


# The words come from the engines, not from the terminal's echo of the typed line.
LOOP = 'net.eval(\'print("be" + "gun", sockets.node)\\nwhile True: pass\').result()'
DEAF = (
    "net.eval('import signal\\nif sockets.node == 1:\\n    signal.signal(2, signal.SIG_IGN)\\n"
    'print("be" + "gun", sockets.node)\\nwhile True: pass\').result()'
)
BEGUN = "begun"


def test_ctrl_c_once_ends_the_remote_work(terminal: Terminal) -> None:
    terminal.begin(LOOP, BEGUN, BEGUN)
    said, seconds = terminal.ctrl_c()
    print(f"Ctrl-C: {seconds:.2f} s")
    assert "KeyboardInterrupt" in said
    assert seconds < SOON
    assert "[11, 12]" in terminal.run("net.eval('10 + sockets.node').result(60)")


def test_ctrl_c_twice_kills_the_engine_that_does_not_hear_it(terminal: Terminal) -> None:
    terminal.begin("command = " + DEAF, BEGUN, BEGUN)
    said, seconds = terminal.ctrl_c()
    print(f"first Ctrl-C: {seconds:.2f} s")
    assert "node 1 (127.0.0.1" in said
    assert "has not ended yet: wait for it again and interrupt that" in said
    assert seconds < SOON
    terminal.begin("net[1].eval('0').result()")
    said, seconds = terminal.ctrl_c()
    print(f"second Ctrl-C: {seconds:.2f} s")
    assert seconds < SOON
    assert "died: SIGKILL" in terminal.run("net[1].eval('1').result(60)")
    assert "22" in terminal.run("net[2].eval('20 + sockets.node').result(60)")


@pytest.mark.slow
def test_a_progress_bar_is_a_line_that_is_blank_in_the_end(terminal: Terminal) -> None:
    terminal.run("progress_bars(after=0)")
    shown = terminal.run(
        "_ = net.eval('import time; time.sleep(0.4 * sockets.node)').result(); print('e' + 'nd')"
    )
    assert "waiting:" in shown and "1/2" in shown
    assert "<div>" not in shown and "<progress" not in shown
    before, _, _ = shown.partition("end")
    assert before.endswith("\r") and before.rstrip("\r").rpartition("\r")[2].strip() == ""
