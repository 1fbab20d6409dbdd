"""The examples of the gallery: each runs as a program of its own, checks its result, and makes a figure."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import module, program

ROOT = Path(__file__).parent.parent.parent
GALLERY = ROOT / "doc/gallery"
EXAMPLES = sorted(path.name for path in GALLERY.glob("plot_*.py"))
LIMIT = 100.0  # seconds; each takes some seconds on a machine that does nothing else


def test_there_are_ten_examples() -> None:
    assert len(EXAMPLES) == 10


def test_the_header_lists_each_example_once() -> None:
    header = (GALLERY / "GALLERY_HEADER.rst").read_text(encoding="utf-8")
    listed = [word for word in header.split("`") if word.startswith("sphx_glr_auto_gallery_")]
    assert sorted(listed) == [f"sphx_glr_auto_gallery_{name}" for name in EXAMPLES]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_what_its_page_needs(name: str) -> None:
    """A title, an introduction, sections, a check, and one figure, of which the thumbnail is made."""
    source = (GALLERY / name).read_text(encoding="utf-8")
    tree = ast.parse(source)
    docstring = ast.get_docstring(tree)
    assert docstring is not None
    title, underline, empty, summary, *_ = docstring.splitlines()
    assert underline == "=" * len(title)
    assert empty == ""
    assert summary.endswith(".")
    assert source.count("# %%\n") >= 2
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(tree)) >= 2
    assert source.count("plt.subplot") == 1
    assert source.endswith("plt.show()\n")
    assert 30 <= source.count("\n") <= 110
    if "local_network" in source:
        assert 'pconnect(["alpha", "beta"' in source, "it does not say how to use other machines"


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_makes_a_labelled_figure(name: str, tmp_path: Path) -> None:
    module("matplotlib")
    module("sklearn")
    if "compilation" in name:
        program("gcc", "gcc")
        program("make", "make")
    hooks, folder = tmp_path / "hooks", tmp_path / "folder"
    hooks.mkdir()
    folder.mkdir()
    shutil.copy(ROOT / "tests/support/figures_at_exit.py", hooks / "sitecustomize.py")
    # The package may be installed in place, or not at all.
    paths = os.pathsep.join([str(hooks), str(ROOT)])
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PCONNECT_", "PSERVER_"))}
    done = subprocess.run(
        [sys.executable, "-W", "default", GALLERY / name],
        cwd=folder,
        env=kept | {"MPLBACKEND": "Agg", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["figure-1.json", "figure-1.png"]
    assert (folder / "figure-1.png").stat().st_size > 10_000
    for axes in json.loads((folder / "figure-1.json").read_text()):
        assert axes["shown"]
        assert axes["x"] or axes["y"], axes
