"""A release: reproducible bytes, licences of dependencies, and no page that installs a name that is not yet ours."""

import hashlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_LICENCES = {  # as on a page: words that the metadata of such a package contains
    "LGPL-2.1": "LGPL",
    "LGPL-3.0-or-later": "LGPL-3",
    "BSD-3-Clause": "BSD",
    "BSD-2-Clause": "BSD",
    "Apache-2.0": "Apache",
    "MIT": "MIT",
    "MPL-2.0": "MPL",
    "the matplotlib licence": "matplotlib",
}


# pip, pipx, `uv pip` and `uv tool`, conda and the like; a command ends with its line or its code.
_INSTALL = re.compile(r"\b(?:(?:pip3?|pipx|tool|conda|mamba) (?:install|run)|uv add|uvx)\b[^`\n]*")


def names(requirements: list[str]) -> list[str]:
    return [found for each in requirements if (found := re.split(r"[^\w.-]", each)[0]) != "pserver"]


def stated(package: str) -> str:
    """Return the licence from a package's metadata."""
    about = metadata(package)
    fields = ("License-Expression", "License", "Classifier")
    return " ".join(each for field in fields for each in about.get_all(field) or [] if "Topic" not in each)


def test_each_dependency_has_its_licence_on_the_page() -> None:
    page = (ROOT / "doc/reference/dependencies.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")
    ]
    core = {row[0]: row[2] for row in rows if row[0] in names(PROJECT["dependencies"])}
    assert list(core) == names(PROJECT["dependencies"]), (
        "list each dependency in doc/reference/dependencies.md"
    )
    extras = {
        row[0].strip("`"): (row[1].split(", "), row[2].split(", ")) for row in rows if row[0].startswith("`")
    }
    wanted = PROJECT["optional-dependencies"]
    assert {name: packages for name, (packages, _) in extras.items()} == {
        name: list(dict.fromkeys(each.partition("[")[0] for each in names(wanted[name])))
        for name in wanted
        if name not in {"dev", "docs"}
    }
    found = 0
    for package, licence in [
        *core.items(),
        *(pair for each in extras.values() for pair in zip(*each, strict=True)),
    ]:
        word = next(word for prefix, word in _LICENCES.items() if licence.startswith(prefix))
        try:
            assert word in stated(package), (package, licence, stated(package))
            found += 1
        except PackageNotFoundError:
            assert package == "bokeh", package  # the only dependency that tests do not need
    assert found >= 20


def test_no_page_installs_a_name_that_is_not_ours() -> None:
    """In messages the name is fine: where they appear, pserver is installed, and pip leaves it unchanged."""
    for path in [*ROOT.glob("*.md"), *(ROOT / "doc").rglob("*.md"), *(ROOT / "doc").rglob("*.ipynb")]:
        if path.name == "RELEASING.md" or "auto_gallery" in path.parts:
            continue
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")  # lines of a shell may continue
        for found in _INSTALL.findall(text):
            assert not re.search(r"""[\s'"]pserver(\[[\w,-]*\])?(['"=<>~\s`]|$)""", found), (
                f"{path}: {found!r} asks an index for a name that may not be ours: install from a clone or a wheel file"
            )


def test_the_changes_of_the_version_are_listed_with_a_date() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)
    assert versions[:1] == [PROJECT["version"]], "begin a section of CHANGELOG.md with the version and a date"


@pytest.mark.slow
def test_the_same_commit_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The clone that is tested may belong to another account.
    (tmp_path / ".gitconfig").write_text("[safe]\n\tdirectory = *\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("one", "two"):
        clone = tmp_path / name
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True, timeout=100)
        subprocess.run([clone / ".ci/dist", sys.executable, clone / "dist"], check=True, timeout=100)
    built = [sorted((tmp_path / name / "dist").iterdir()) for name in ("one", "two")]
    sums = [[(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths] for paths in built]
    assert sums[0] == sums[1]
    wheel, sdist = built[0]
    version = PROJECT["version"]
    assert (wheel.name, sdist.name) == (f"pserver-{version}-py3-none-any.whl", f"pserver-{version}.tar.gz")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    packages = {name for name in tracked if re.match(r"(pserver|pconnect|srp_tools)/", name)}
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name and ".data/" not in name}
    assert inside == packages
    with tarfile.open(sdist) as archive:
        contained = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert {name for name in set(tracked) - contained if not name.startswith(".git")} == set()
