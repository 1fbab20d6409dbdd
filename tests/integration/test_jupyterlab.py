"""JupyterLab in Chromium: the contents of the page and of the notebook's file."""

import re
from collections.abc import Iterator

import pytest

from tests.support.jupyterlab import Lab, open_notebook
from tests.support.servers import Server

pytestmark = pytest.mark.slow
CONNECT = """
%load_ext pconnect
from pconnect import *
progress_bars(after=0.2)
net = pconnect([{host!r}] * 2)
"""
FIGURE = "import matplotlib.pyplot as plt\nplt.figure(figsize=(2, 1)); plt.plot([1, 3, 2]); plt.show()"
STEPS = f"""
for step in range(3):
    net.eval("import time; time.sleep(0.6 * sockets.node); print('there')").result()
    print("step", step)
{FIGURE}
"""
JOBS = f"""
{FIGURE}
for k in net.map(lambda k: [__import__("time").sleep(0.3), k][1], range(6)):
    print(k)
"""
CLEARS = """
from IPython.display import clear_output
for step in range(2):
    clear_output(wait=True)
    display(step)
    jobs = [net.submit(lambda: __import__("time").sleep(0.3)) for _ in range(6)]
    print(len(list(as_completed(jobs))))
job = jobs[0]
"""
DASHBOARD = "net.dashboard()"
FAILURE = "net.eval('import time; time.sleep(0.6 * sockets.node); 1 / 0').result()"


@pytest.fixture(scope="module")
def lab(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab with a notebook that has not run yet."""
    folder = tmp_path_factory.mktemp("lab")
    with open_notebook(
        folder, server, CONNECT.format(host=server.host), STEPS, JOBS, CLEARS, DASHBOARD, FAILURE
    ) as lab:
        yield lab


@pytest.fixture(scope="module")
def line(lab: Lab) -> str:
    """Run all cells; return the line with the progress bar that was seen meanwhile."""
    with lab.running_all():
        bar = lab.page.wait_for_selector(".jp-CodeCell progress")
        assert bar is not None
        return str(bar.evaluate("bar => bar.parentElement.innerText"))


def test_a_bar_is_seen_while_a_cell_runs_and_then_nothing_of_it(line: str, lab: Lab) -> None:
    assert "of 2 nodes done" in line
    shown = {cell: lab.outputs(cell) for cell in range(6)}
    assert shown[0] == []
    steps, figure = shown[1]  # all printed text is one output
    assert "there" in steps and "step 2" in steps and "<img" in figure
    figure, printed = shown[2]
    assert "<img" in figure and "<pre>0\n1\n2\n3\n4\n5\n</pre>" in printed
    assert not any("vnd.jupyter.stderr" in output for output in (*shown[1], *shown[2], *shown[3]))
    assert "<pre>1</pre>" in shown[3][0] and "<pre>6\n</pre>" in shown[3][-1]
    (error,) = shown[5]
    assert "ZeroDivisionError" in error
    for output in (*shown[1], *shown[2], *shown[3], *shown[5]):
        assert "<progress" not in output and "nodes done" not in output and "jobs done" not in output
    for cell in lab.saved():
        for output in cell["outputs"]:
            assert output.get("name") != "stderr" and "nodes done" not in str(output)


@pytest.mark.usefixtures("line")
def test_the_page_of_a_network_is_shown_below_the_path_of_jupyter(lab: Lab) -> None:
    """Through jupyter-server-proxy: the notebook's browser and kernel may be on different machines."""
    element = lab.page.wait_for_selector(".jp-OutputArea-output iframe")
    frame = element.content_frame() if element is not None else None
    assert frame is not None
    frame.wait_for_selector("#light.live")
    assert re.match(r"http://127\.0\.0\.1:\d+/proxy/\d+/\?token=", frame.url)
    frame.locator("#servers-table tbody th").wait_for()
    assert frame.locator("#sessions-table tbody button").count() == 0


@pytest.mark.usefixtures("line")
def test_public_names_complete(lab: Lab) -> None:
    for name, expected in {"net": {"map", "info"}, "job": {"result", "why"}}.items():
        names = lab.completions(f"{name}.")
        assert expected <= names
        assert not any(name.startswith("_") for name in names)
        assert not names & {"waiter", "buffers", "siblings"}
