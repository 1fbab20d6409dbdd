"""Write the open figures of a script, and their labels, to its folder when it ends.

A test copies this file to `sitecustomize.py` in a folder of `PYTHONPATH`. Servers and workers have the same variable,
but do not run the script.
"""

import atexit
import json
import sys
from pathlib import Path
from typing import Any


def _labels(axes: Any) -> dict[str, Any]:
    return {"x": axes.get_xlabel(), "y": axes.get_ylabel(), "shown": axes.axison}


def _save() -> None:
    plt = sys.modules["matplotlib.pyplot"]
    for number in plt.get_fignums():
        figure = plt.figure(number)
        figure.savefig(f"figure-{number}.png")
        Path(f"figure-{number}.json").write_text(json.dumps([_labels(axes) for axes in figure.axes]))


if Path(sys.orig_argv[-1]).name.startswith("plot_"):
    # Matplotlib closes all figures at exit. What is registered after that runs before.
    import matplotlib._pylab_helpers  # noqa: F401

    atexit.register(_save)
