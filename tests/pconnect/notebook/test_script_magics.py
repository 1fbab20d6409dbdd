"""The magic that runs programs."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import pconnect
from pconnect import ProgramFailedError, ProgramTimeoutError
from pconnect.views.network_views import ClientNetwork
from tests.support.waiting import wait_gone, wait_until


@pytest.fixture(scope="module")
def shell_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    shell = InteractiveShell(ipython_dir=str(tmp_path_factory.mktemp("ipython")))
    shell.history_manager.enabled = False
    yield shell
    shell.history_manager.end_session()


@pytest.fixture
def shell(shell_of_tests: InteractiveShell, network: ClientNetwork) -> Iterator[InteractiveShell]:
    """Return a shell in which `net` is the network."""
    assert "pxscript" not in str(shell_of_tests.magics_manager.magics)
    pconnect.load_ipython_extension(shell_of_tests)
    shell_of_tests.push({"net": network})
    shell_of_tests.run_line_magic("pxconfig", "--network net")
    yield shell_of_tests
    pconnect.unload_ipython_extension(shell_of_tests)
    assert "pxscript" not in str(shell_of_tests.magics_manager.magics)


def test_programs_read_the_cell(
    shell: InteractiveShell, network: ClientNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell_magic("pxscript", "--cwd / sh -s a 'b c'", "echo $#; pwd; echo $2 ä >&2\n")
    out, err = capsys.readouterr()
    for node in (1, 2):
        prefix = f"[{node} {network[node].host}] "
        lines = [line for line in out.splitlines() if line.startswith(prefix)]
        assert lines == [f"{prefix}2", f"{prefix}/"]
        assert f"{prefix}b c ä" in err.splitlines()


def test_a_line_knows_the_names_of_the_notebook(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.push({"n": 7})
    shell.run_cell("%pxscript -t 2 seq {n} {n + 1}")
    assert [line.split("] ")[1] for line in capsys.readouterr().out.splitlines()] == ["7", "8"]


def test_a_program_on_one_of_the_nodes(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_line_magic("pxscript", "--one -- echo -t 1")
    assert [line.split("] ")[1] for line in capsys.readouterr().out.splitlines()] == ["-t 1"]


def test_a_failure_is_raised_after_all_programs_have_ended(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ProgramFailedError, match=r"sh on node 1 \(.*\): exit status 3") as caught:
        shell.run_cell_magic("pxscript", "sh", "echo out\nexit 3\n")
    assert caught.value.returncode == 3
    assert "node 2" in caught.value.__notes__[0]
    assert len(capsys.readouterr().out.splitlines()) == 2
    shell.run_cell_magic("pxscript", "--no-raise-error -t 1 sh", "kill $$")
    assert capsys.readouterr().err.endswith("ended by signal 15 (Terminated)\n")
    with pytest.raises(FileNotFoundError, match="there is no program no-such-program"):
        shell.run_line_magic("pxscript", "no-such-program")
    with pytest.raises(ProgramTimeoutError):
        shell.run_line_magic("pxscript", "--one --time-limit 0.2 sleep 100")
    with pytest.raises(UsageError, match="no program is given"):
        shell.run_line_magic("pxscript", "-t 1")
    with pytest.raises(UsageError, match="No closing quotation"):
        shell.run_line_magic("pxscript", "echo 'a")
    with pytest.raises(UsageError, match="unrecognized arguments"):
        shell.run_line_magic("pxscript", "--no-such-option true")
    with pytest.raises(UsageError, match="--targets 9"):
        shell.run_line_magic("pxscript", "-t 9 true")


def interrupt_when(*paths: Path) -> None:
    """Press Ctrl-C as soon as the first file exists, and once more for each further file."""

    def press() -> None:
        for path in paths:
            wait_until(path.exists, f"{path}")
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=press).start()


def test_an_interrupt_reaches_the_programs(shell: InteractiveShell, tmp_path: Path) -> None:
    interrupt_when(tmp_path / "begun")
    script = f"cd {tmp_path}; trap 'touch told; exit 1' INT; touch begun; while :; do sleep 0.05; done\n"
    with pytest.raises(KeyboardInterrupt):
        shell.run_cell_magic("pxscript", "-t 1 sh", script)
    assert (tmp_path / "told").exists()


def test_a_second_interrupt_ends_them(shell: InteractiveShell, tmp_path: Path) -> None:
    interrupt_when(tmp_path / "begun", tmp_path / "told")
    script = (
        f"cd {tmp_path}; echo $$ > pid; trap 'touch told' INT; touch begun; while :; do sleep 0.05; done\n"
    )
    with pytest.raises(KeyboardInterrupt):
        shell.run_cell_magic("pxscript", "-t 1 sh", script)
    wait_gone(int((tmp_path / "pid").read_text()))


def test_a_notebook_is_not_flooded(
    shell: InteractiveShell,
    network: ClientNetwork,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network.mesh.console.sink, "max_shown_bytes", 10)  # type: ignore[attr-defined]
    shell.run_line_magic("pxscript", "-t 1 seq 1 100")
    lines = [line.split("] ")[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["1", "2", "3", "4", "5", "(282 more bytes are not shown here)"]
