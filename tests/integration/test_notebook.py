"""A real Jupyter kernel: a notebook's output, its place, and interrupts."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.manager import AsyncKernelManager

from tests.support.kernels import DEADLINE, Kernel, Run, kernel_files, run_kernel
from tests.support.servers import Server
from tests.support.waiting import wait_until

DOCUMENTS = Path(__file__).parent.parent.parent / "doc"
# The time that a busy machine may take instead of a second.
SOON = 10.0


@pytest.fixture(scope="module")
def kernel(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with run_kernel(tmp_path_factory.mktemp("kernel"), server) as kernel:
        kernel.well(f"%load_ext pconnect\nfrom pconnect import *\nhosts = [{server.host!r}] * 2")
        yield kernel


@pytest.fixture
def notebook(kernel: Kernel) -> Iterator[Kernel]:
    """A kernel with a network `net` of two engines that have not been used yet."""
    kernel.well("net = pconnect(hosts)")
    yield kernel
    kernel.well("net.close()")


def test_a_cell_runs_at_all_engines_and_shows_their_values(notebook: Kernel, server: Server) -> None:
    run = notebook.well("%%px\nprint('working')\nx = np.arange(3) * sockets.node\nx")
    lines = run.stdout.splitlines()
    assert lines[-2:] == [
        f"Out[1 {server.host}]: array([0, 1, 2])",
        f"Out[2 {server.host}]: array([0, 2, 4])",
    ]
    assert sorted(lines[:-2]) == [f"[1 {server.host}] working", f"[2 {server.host}] working"]
    assert run.error == ""
    run = notebook.well("%%px --targets 2 -o both\nprint('only', sockets.node)")
    assert run.stdout == f"[2 {server.host}] only 2\n"
    assert notebook.well("both.nodes").displays[0]["text/plain"] == "(2,)"


def test_output_of_the_background_goes_to_the_cell_that_began_it(notebook: Kernel, server: Server) -> None:
    first = notebook.well(
        "%%px --noblock --targets 1\nimport time\nfor k in range(3):\n    print('step', k)\n    precv(sockets[0])"
    )
    notebook.wait(lambda: "step 0" in first.stdout, "output while the kernel is idle")
    second = notebook.well(
        "psend(None, net[1]); print('mine'); import time; time.sleep(0.3); net[2].eval('7').result()"
    )
    notebook.wait(lambda: "step 1" in first.stdout, "output after another cell")
    third = notebook.well("psend(None, net[1]); psend(None, net[1]); net[1].eval('1').result()")
    notebook.wait(lambda: "step 2" in first.stdout, "the last output")
    assert first.stdout == "".join(f"[1 {server.host}] step {k}\n" for k in range(3))
    assert second.stdout == "mine\n"
    assert third.stdout == ""


def test_what_jobs_print_goes_to_the_cell_that_runs(notebook: Kernel, server: Server) -> None:
    source = "net.submit('lambda k: print(\"job\", k)', {}).result(); print('end', {})"
    runs = [notebook.well(source.format(k, k)) for k in range(3)]
    for number, run in enumerate(runs):
        lines = run.stdout.splitlines()
        assert lines[-1] == f"end {number}"
        assert [line.partition("] ")[2] for line in lines[:-1]] == [f"job {number}"]
        assert re.match(rf"\[[12] {server.host} job \d+\]", lines[0])


def test_top_level_await(notebook: Kernel) -> None:
    run = notebook.well("await net.eval('print(\"from there\"); sockets.node')")
    assert run.displays == [{"text/plain": "[1, 2]"}]
    assert run.stdout.count("from there") == 2


def test_an_error_has_the_remote_source_and_nothing_of_ours(notebook: Kernel, server: Server) -> None:
    run = notebook.run("%%px\ndef half(x):\n    return x / 0\n\nhalf(1)")
    assert "ZeroDivisionError" in run.error
    assert f"on nodes 1 and 2 ({server.host})" in run.error
    assert "    return x / 0\n" in run.error
    assert "pconnect/" not in run.error
    run = notebook.run("def ask():\n    return net[2].eval('half(2)').result()\n\nask()")
    assert "line 4" in run.error and "in ask" in run.error
    assert f"on node 2 ({server.host})" in run.error
    assert "pconnect/" not in run.error


def test_other_errors_are_shown_as_ever(notebook: Kernel) -> None:
    assert "ZeroDivisionError" in notebook.run("1 / 0").error
    # IPython prints the traceback of a group to standard error.
    assert (
        "sub-exception" in notebook.run("raise ExceptionGroup('a group', [ValueError('of the user')])").stderr
    )


def begin(notebook: Kernel, body: str, targets: str = "all") -> Run:
    """Start a cell and wait until its engines are working."""
    count = 1 if targets != "all" else 2
    run = notebook.start(f"%%px --targets {targets}\nimport time\nprint('begun')\n{body}")
    notebook.wait(lambda: run.stdout.count("begun") == count, "the beginning")
    return run


@pytest.mark.parametrize("body", ["while True: pass", "time.sleep(1e6)"])
def test_interrupt(notebook: Kernel, body: str) -> None:
    run = begin(notebook, body)
    seconds = notebook.interrupt(run)
    print(f"interrupt of {body!r}: {seconds:.2f} s")
    assert seconds < SOON
    assert "KeyboardInterrupt" in run.error
    assert notebook.well("net.eval('sockets.node').result()").displays == [{"text/plain": "[1, 2]"}]


def test_interrupt_of_an_awaited_command(notebook: Kernel) -> None:
    run = notebook.start("await net.eval('''\nprint('begun')\nwhile True: pass\n''')")
    notebook.wait(lambda: run.stdout.count("begun") == 2, "the beginning")
    seconds = notebook.interrupt(run)
    print(f"interrupt of await: {seconds:.2f} s")
    assert seconds < SOON
    assert notebook.well("net.eval('sockets.node').result(30)").displays == [{"text/plain": "[1, 2]"}]


def test_interrupt_of_what_does_not_hear_it_and_the_second_time(notebook: Kernel) -> None:
    # numpy multiplies integer matrices itself, in one thread; this takes half a minute.
    notebook.well("%px a = np.arange(3000**2).reshape(3000, 3000)")
    shown = notebook.well("net[1].eval('__import__(\"os\").getpid()').result(30)").displays
    engine = psutil.Process(int(shown[0]["text/plain"]))
    run = begin(notebook, "a @ a", targets="1")
    used = engine.cpu_times().user
    wait_until(lambda: engine.cpu_times().user > used + 0.1, "the product to begin")
    seconds = notebook.interrupt(run)
    print(f"interrupt of numpy: {seconds:.2f} s")
    assert seconds < SOON
    assert "has not ended yet: wait for it again and interrupt that" in run.error
    again = notebook.start("%pxresult")
    notebook.wait(lambda: any(m["msg_type"] == "execute_input" for m in again.messages), "its beginning")
    seconds = notebook.interrupt(again)
    print(f"second interrupt of numpy: {seconds:.2f} s")
    assert seconds < SOON
    died = notebook.run("net[1].eval('1').result(60)")
    assert "EngineDiedError" in died.error and "SIGKILL" in died.error
    assert notebook.well("net[2].eval('2').result(60)").displays == [{"text/plain": "2"}]


def test_kill_and_restart(notebook: Kernel) -> None:
    notebook.well("%px x = 1")
    died = notebook.run("net[1].kill()\nnet[1].eval('1').result(60)")
    assert "EngineDiedError" in died.error
    run = notebook.well("restart(net[1])\nnet.eval(\"'x' in globals()\").result(60)")
    assert run.displays == [{"text/plain": "[False, True]"}]
    assert notebook.well("%px sockets.node").stdout.count("Out[") == 2


def test_a_figure_of_an_engine_is_shown_in_the_cell(notebook: Kernel) -> None:
    run = notebook.well(
        "%%px --noblock --targets 1\nimport matplotlib.pyplot as plt\nprecv(sockets[0])\nplt.plot([1, 2])\nplt.show()"
    )
    notebook.well("psend(None, net[1])")
    notebook.wait(lambda: len(run.displays) == 1, "the figure")
    assert base64.b64decode(run.displays[0]["image/png"]).startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_long_wait_has_a_progress_bar_that_leaves_nothing(notebook: Kernel) -> None:
    run = notebook.well("%%px --progress-after 0\nimport time\ntime.sleep(sockets.node - 0.5)\nprint('said')")
    texts = [text.split(",")[0] for text in run.updates]
    assert list(dict.fromkeys(texts)) == ["0 of 2 nodes done", "1 of 2 nodes done", ""]
    assert run.stderr == ""
    assert [output for output in run.outputs if "stdout" not in output] == [NOTHING]
    run = notebook.well("%%px --progress-after -1\nimport time\ntime.sleep(0.5)")
    assert run.outputs == []


# The progress display at the end of the cell.
NOTHING = {"text/plain": "", "text/html": ""}
JOBS = "progress_bars(after=0)\nnap = lambda k: __import__('time').sleep(0.2)\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "for step in range(3):\n    list(net.map(nap, range(8)))\n    print('step', step)\nprint('end')",
            "of 8 jobs done, about",
        ),
        ("print(len(net.pmap(nap, range(8), uniform_output=False)))", "of 8 jobs done, about"),
        ("for k, _ in enumerate(net.map(nap, range(8))): print(k)", "of 8 jobs done, about"),
        ("results = net.map(nap, range(8)); next(results)", "of 8 jobs done"),
        (
            "open('large', 'wb').write(bytes(200_000_000)); net.put('large', 'large'); net.get('large', 'back')",
            "putting: ",
        ),
        (
            "net.eval('import time; time.sleep(0.6 * sockets.node - 0.5); 1 / 0').result()",
            "1 of 2 nodes done",
        ),
    ],
    ids=["map", "pmap", "loop", "not to its end", "files", "error"],
)
def test_no_bar_is_left(notebook: Kernel, source: str, text: str) -> None:
    run = notebook.run(JOBS + source)
    assert any(text in update for update in run.updates), run.updates
    assert run.stderr == ""
    assert run.outputs[0] == NOTHING
    # One display for all waits of the cell, and one output for all its printed text.
    assert len(run.outputs) <= 2, run.outputs
    assert not any("done" in str(output) for output in run.outputs)
    notebook.well("results = None; progress_bars()")


@pytest.mark.slow
@pytest.mark.parametrize("wait", [False, True])
def test_a_cell_that_clears_its_output_has_bars_again(notebook: Kernel, wait: bool) -> None:
    run = notebook.well(
        JOBS + "from IPython.display import clear_output\n"
        f"for k in range(3): clear_output(wait={wait}); display(k); list(net.map(nap, range(4)))"
    )
    assert run.outputs == [{"text/plain": "2"}, NOTHING]
    bars = [m for m in run.messages if m["msg_type"] == "display_data" and not m["content"]["data"]]
    assert len(bars) == 3
    notebook.well("progress_bars()")


@pytest.mark.slow
def test_an_interrupt_leaves_no_bar(notebook: Kernel) -> None:
    run = notebook.start("progress_bars(after=0); net.eval('while True: pass').result()")
    notebook.wait(lambda: any("0 of 2" in text for text in run.updates), "the bar")
    notebook.interrupt(run)
    assert "KeyboardInterrupt" in run.error
    assert run.outputs == [NOTHING] and run.stderr == ""
    notebook.well("progress_bars()")


@pytest.mark.slow
def test_names_of_the_engine_complete(notebook: Kernel) -> None:
    notebook.well("%px temperature = 3")

    def complete(cell: str) -> list[str]:
        reply = notebook.client.complete(cell, reply=True, timeout=60)
        matches: list[str] = reply["content"]["matches"]
        return matches

    assert "temperature" in complete("%px temper")
    assert "temperature.real" in complete("%%px\ny = temperature.re")
    assert complete("y = temper") == []
    notebook.well("busy = net.eval('precv(sockets[0])')")
    assert complete("%px temper") == []
    notebook.well("psend(None, net); busy.result()")
    assert (
        notebook.well("net._ipython_key_completions_()").displays[0]["text/plain"].startswith("['127.0.0.1")
    )


def test_autopx(notebook: Kernel) -> None:
    notebook.well("%autopx")
    assert notebook.well("here = sockets.node\nhere").stdout.count("Out[") == 2
    notebook.well("%autopx")
    assert "NameError" in notebook.run("here").error


def test_tables(notebook: Kernel, server: Server) -> None:
    for shown in ("net", "net[1]", "net.eval('1')", "net[1].eval('1')"):
        assert server.host in notebook.well(shown).displays[0]["text/html"]


@pytest.mark.slow
def test_the_notebook_of_the_documentation_runs(server: Server, tmp_path: Path) -> None:
    import nbformat  # takes two seconds, so not when all tests are collected
    from nbclient import NotebookClient

    notebook = nbformat.read(DOCUMENTS / "notebook.ipynb", 4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    with kernel_files(tmp_path, server) as (environment, settings):
        manager = AsyncKernelManager(**settings)
        manager.kernel_spec_manager.kernel_dirs = [str(tmp_path / "kernels")]
        runner = NotebookClient(notebook, km=manager, timeout=DEADLINE)
        # Otherwise a kernel whose manager was made elsewhere keeps running, and its sockets stay open.
        runner.execute(env=environment, cwd=str(tmp_path), cleanup_kc=True)
        assert not manager.has_kernel
    text = "\n".join(told(cell) for cell in notebook.cells if cell.cell_type == "code")
    for words in (
        "this node",
        "Out[2 local",
        "array([10., 11., 14., 19., 26., 35.])",
        "3.14",
        "image/png",
        "LinAlgError on node 1",
        "still here",
        "meanwhile, here",
        "False",
    ):
        assert words in text, text


def told(cell: Any) -> str:
    """Return the text that a cell shows, with the types of other outputs."""
    words = []
    for output in cell.outputs:
        words += [output.get("text", ""), "\n".join(output.get("traceback", []))]
        words += [item if kind.startswith("text/") else kind for kind, item in output.get("data", {}).items()]
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(words))
