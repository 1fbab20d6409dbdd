import contextlib
import io
from collections.abc import Iterator

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import pconnect
from pconnect import RemoteError
from pconnect.notebook.magics import choose
from pconnect.views.network_views import ClientNetwork


@pytest.fixture(scope="module")
def shell_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    shell = InteractiveShell(ipython_dir=str(tmp_path_factory.mktemp("ipython")))
    shell.history_manager.enabled = False
    yield shell
    shell.history_manager.end_session()


@pytest.fixture
def shell(shell_of_tests: InteractiveShell, network: ClientNetwork) -> Iterator[InteractiveShell]:
    """Return a shell in which `net` is the network."""
    pconnect.load_ipython_extension(shell_of_tests)
    shell_of_tests.push({"net": network})
    shell_of_tests.run_line_magic("pxconfig", "--network net")
    yield shell_of_tests
    pconnect.unload_ipython_extension(shell_of_tests)


def test_a_line_and_a_cell_run_at_the_engines(
    shell: InteractiveShell, network: ClientNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("px", "{x} if False else 1; x = {sockets.node}")
    shell.run_cell_magic("px", "--targets 2 -o kept", "x")
    assert capsys.readouterr().out == f"Out[2 {network[2].host}]: {{2}}\n"
    kept = shell.user_ns["kept"]
    assert kept.nodes == (2,)
    assert repr(kept.result()[0]) == "{2}"


def test_a_semicolon_hides_the_value(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell_magic("px", "", "4\n5;\n")
    shell.run_line_magic("px", "6;")
    assert capsys.readouterr().out == ""


def test_results_without_waiting(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell_magic("px", "--noblock", "sockets.node * 10")
    assert capsys.readouterr().out == ""
    shell.run_line_magic("pxresult", "--out late")
    assert [line.split("]: ")[1] for line in capsys.readouterr().out.splitlines()] == ["10", "20"]
    assert repr(shell.user_ns["late"].result()) == "[10, 20]"


def test_an_error_follows_the_values_of_other_nodes(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError) as failed:
        shell.run_line_magic("px", "6 / (sockets.node - 1)")
    assert isinstance(failed.value, RemoteError)
    assert capsys.readouterr().out.endswith("]: 6.0\n")


@pytest.mark.parametrize(
    ("grouping", "order"),
    [
        ("type", ["1 o", "2 o", "1 e", "2 e", "1 v", "2 v"]),
        ("engine", ["1 o", "1 e", "1 v", "2 o", "2 e", "2 v"]),
    ],
)
def test_output_shown_at_the_end(
    shell: InteractiveShell, network: ClientNetwork, grouping: str, order: list[str]
) -> None:
    cell = "import sys\nprint('o')\nprint('e', file=sys.stderr)\n'v'"
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        shell.run_cell_magic("px", f"--no-stream --group-outputs={grouping}", cell)
    lines = said.getvalue().replace("Out[", "[").replace("]: 'v'", "] v").splitlines()
    host = network[1].host
    assert lines == [f"[{words[0]} {host}] {words[-1]}" for words in order]


def test_local_runs_the_cell_here_as_well(shell: InteractiveShell, network: ClientNetwork) -> None:
    shell.run_cell_magic("px", "--local", "both = 5")
    assert shell.user_ns["both"] == 5
    assert network.pull("both") == [5, 5]


def test_the_configuration_holds_from_then_on(
    shell: InteractiveShell, network: ClientNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("pxconfig", "--targets 2 --verbose")
    shell.run_line_magic("px", "1")
    assert capsys.readouterr().out == f"Parallel execution on nodes: [2]\nOut[2 {network[2].host}]: 1\n"
    with pytest.raises(UsageError, match="no node 7"):
        shell.run_line_magic("pxconfig", "--targets 7")
    with pytest.raises(UsageError, match="'nobody' is not a network"):
        shell.run_line_magic("pxconfig", "--network nobody")
    shell.run_line_magic("pxconfig", "")
    options = "--network=net --targets=2 --block --stream --verbose --signal-on-interrupt=SIGINT"
    assert capsys.readouterr().out == f"%pxconfig {options}\n"
    with pytest.raises(UsageError):
        shell.run_cell_magic("px", "--signal-on-interrupt SIGTERM", "1")


def test_the_configuration_is_shown_as_the_line_that_sets_it(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--network=net --targets=1,2 --noblock --no-stream --no-verbose --progress-after=-1"
    line = f"{options} --signal-on-interrupt=SIGKILL"
    shell.run_line_magic("pxconfig", line)
    shell.run_line_magic("pxconfig", "")
    assert capsys.readouterr().out == f"%pxconfig {line}\n"


def test_autopx(shell: InteractiveShell, network: ClientNetwork, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell("%autopx")
    shell.run_cell("\nremote = 8\n")
    shell.run_cell("%px remote += 1")
    shell.run_cell("%autopx")
    shell.run_cell("remote = 'here'")
    assert network.pull("remote") == [9, 9]
    assert shell.user_ns["remote"] == "here"
    assert "enabled" in (said := capsys.readouterr().out) and "disabled" in said


def test_ways_to_name_nodes(network: ClientNetwork) -> None:
    assert choose(network, "all").nodes == [1, 2]
    assert choose(network[2:], "all").nodes == [2]
    assert choose(network, "[2, 1]").nodes == [2, 1]
    assert choose(network, "-1").nodes == [2]
    assert choose(network, ":2").nodes == [1]
    assert choose(network, "127.0.0.1").nodes == [1, 2]
    assert choose(network, repr(network[1].host)).nodes == [1, 2]
    for nonsense in ("nowhere", "0", "9", "1,1", "1:2:0", "", "3:"):
        with pytest.raises(UsageError, match="--targets"):
            choose(network, nonsense)


def test_a_shell_without_the_extension_is_as_before(
    shell_of_tests: InteractiveShell,
) -> None:
    before = list(shell_of_tests.Completer.custom_matchers)
    pconnect.load_ipython_extension(shell_of_tests)
    pconnect.load_ipython_extension(shell_of_tests)
    with pytest.raises(UsageError, match="there is no command to wait for"):
        shell_of_tests.run_line_magic("pxresult", "")
    shell_of_tests.run_cell("%autopx")
    pconnect.unload_ipython_extension(shell_of_tests)
    assert shell_of_tests.Completer.custom_matchers == before
    assert "px" not in shell_of_tests.magics_manager.magics["line"]
    assert shell_of_tests.run_cell("local = 1").success
    assert shell_of_tests.user_ns["local"] == 1
