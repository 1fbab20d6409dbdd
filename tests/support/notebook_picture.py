"""Make the picture of a notebook for the README: ``python -m tests.support.notebook_picture doc/notebook.png``.

Three servers run in a network namespace under the names alpha, beta and gamma, and JupyterLab runs the cells.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.support.jupyterlab import open_notebook
from tests.support.servers import make_users, run_server

HOSTS = ("alpha", "beta", "gamma")
CELLS = (
    """\
from pconnect import pconnect

net = pconnect(["alpha", "beta", "gamma"])
net""",
    """\
%%px
rng = np.random.default_rng(sockets.node)
inside = np.count_nonzero((rng.random((10**6, 2)) ** 2).sum(axis=1) < 1)
print("pi is about", 4 * inside / 10**6)""",
    """\
import numpy as np
import matplotlib.pyplot as plt

def walk(seed):
    return np.random.default_rng(seed).normal(size=(2, 20_000)).cumsum(axis=1)

plt.figure(figsize=(7, 2.6))
for x, y in net.map(walk, range(8)):   # on the processors of all three machines
    plt.plot(x, y, linewidth=0.6)
plt.axis("equal");""",
)
_BEFORE = """\
%load_ext pconnect
%config InlineBackend.figure_format = "retina"
import functools
import pconnect
pconnect.pconnect = functools.partial(pconnect.pconnect, local_links=False)  # as between machines
"""
_IN_NAMESPACE = 'mount --bind "$1" /etc/hosts && ip link set lo up && shift && exec "$@"'
_COLOURS = 128


def main(path: Path) -> None:
    """Run the cells and write the picture."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        users = make_users(folder / "users")
        servers = [
            stack.enter_context(
                run_server(
                    folder / host, "--cmd-port=12502", "--data-port=12501", bind=f"127.0.1.{k}", users=users
                )
            )
            for k, host in enumerate(HOSTS, 1)
        ]
        lab = stack.enter_context(open_notebook(folder, servers[0], _BEFORE, *CELLS))
        lab.page.set_viewport_size({"width": 900, "height": 1400})
        for command in ("application:toggle-left-area", "notebook:run-all-cells"):
            with lab.running(command):
                pass
        lab.page.mouse.click(2, 2)
        lab.page.wait_for_timeout(2000)
        first = lab.page.locator(".jp-Notebook .jp-CodeCell").nth(1).bounding_box()
        last = lab.page.locator(".jp-Notebook .jp-CodeCell").nth(len(CELLS)).bounding_box()
        assert first and last
        clip = {
            "x": first["x"],
            "y": first["y"],
            "width": first["width"],
            "height": last["y"] + last["height"] - first["y"],
        }
        lab.page.screenshot(path=path, clip=clip)
    Image.open(path).convert("RGB").quantize(_COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    if os.environ.get("PCONNECT_PICTURE") is None:
        with tempfile.NamedTemporaryFile("w") as hosts:
            hosts.write(
                "127.0.0.1 localhost\n" + "".join(f"127.0.1.{k} {h}\n" for k, h in enumerate(HOSTS, 1))
            )
            hosts.flush()
            command = [sys.executable, "-m", __spec__.name, *sys.argv[1:]]
            os.environ["PCONNECT_PICTURE"] = "here"
            shell = ["sh", "-c", _IN_NAMESPACE, "sh", hosts.name, *command]
            sys.exit(os.spawnvp(os.P_WAIT, "unshare", ["unshare", "--mount", "--net", *shell]))
    main(Path(sys.argv[1]))
