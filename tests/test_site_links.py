"""The link checker for the finished site finds all faults, and nothing else."""

import re
import traceback
from pathlib import Path

import numpy as np
import pytest
from machine_paths import without_folders
from root_pages import translate
from site_links import faults

DOC = Path(__file__).parent.parent / "doc"
GOOD = """<html><head><link rel="stylesheet" href="site.css?v=1"><link rel="canonical" href="https://example.org/"></head>
<body id="top"><a href="#top">top</a> <a href="sub/b.html#deep%20down">b</a> <a href="https://example.org">out</a>
<img src="data:image/png;base64,AAAA"> <a href="mailto:a@example.org">mail</a></body></html>
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(GOOD)
    (tmp_path / "site.css").touch()
    (tmp_path / "sub/b.html").write_text('<h1 id="deep down">B</h1><a href="../a.html">a</a>')
    return tmp_path


def test_a_good_site_has_no_faults(site: Path) -> None:
    assert list(faults(site)) == []


@pytest.mark.parametrize(
    ("element", "said"),
    [
        ('<a href="c.html">', "c.html leads to no file"),
        ('<a href="sub">', "sub leads to no file"),
        ('<a href="#nowhere">', "#nowhere leads to no anchor"),
        ('<a href="sub/b.html#top">', "sub/b.html#top leads to no anchor"),
        ('<img src="b.png">', "b.png leads to no file"),
        ('<script src="https://example.org/x.js">', "it loads https://example.org/x.js from another place"),
        ('<img src="//example.org/x.png">', "it loads //example.org/x.png from another place"),
        (
            '<link rel="preload" href="https://example.org/f.woff2">',
            "it loads https://example.org/f.woff2 from",
        ),
    ],
)
def test_a_fault_is_found(site: Path, element: str, said: str) -> None:
    (site / "a.html").write_text(GOOD.replace("<a href=", f"{element} <a href=", 1))
    [fault] = faults(site)
    assert fault.startswith(f"a.html: {said}")


@pytest.mark.parametrize(
    ("text", "folder", "translated"),
    [
        ("[a](doc/security.md#keys)", "..", "[a](security.md#keys)"),
        ("[b](SECURITY.md) [c](LICENSE)", "..", "[b](security-policy.md) [c](../LICENSE)"),
        ("![d](doc/growth.svg)", "..", "![d](growth.svg)"),
        ("[e](../CHANGELOG.md#x) [f](#here)", "", "[e](changelog.md#x) [f](#here)"),
        ("[g](https://example.org/CHANGELOG.md)", "", "[g](https://example.org/CHANGELOG.md)"),
    ],
)
def test_links_between_the_site_and_the_root(text: str, folder: str, translated: str) -> None:
    assert translate(text, folder, "") == translated


def test_links_from_a_folder_of_the_site() -> None:
    text = "[d](../../CHANGELOG.md) [e](../glossary.md) [f](../../README.md#the-calls)"
    assert (
        translate(text, "howto", "howto")
        == "[d](../changelog.md) [e](../glossary.md) [f](../index.md#the-calls)"
    )


def test_output_names_no_folder_of_the_building_machine() -> None:
    try:
        np.linalg.inv(np.zeros((2, 2)))
    except np.linalg.LinAlgError:
        shown = without_folders(traceback.format_exc())
    assert 'File ".../site-packages/numpy/linalg/_linalg.py", line' in shown


def test_each_page_is_in_a_toctree() -> None:
    """The build reports this, too, but takes longer."""
    pages = {
        path.relative_to(DOC).with_suffix("").as_posix()
        for kind in ("*.md", "*.ipynb")
        for path in DOC.rglob(kind)
        if path.relative_to(DOC).parts[0] not in {"gallery", "auto_gallery"}
    }
    listed = {"index"}
    for path in DOC.rglob("*.md"):
        for block in re.findall(
            r"^```\{toctree\}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            for entry in (line for line in block.split() if not line.startswith(":")):
                found = sorted(path.parent.glob(f"{entry}.md")) + sorted(path.parent.glob(f"{entry}.ipynb"))
                listed |= {each.resolve().relative_to(DOC).with_suffix("").as_posix() for each in found}
    missing = sorted(pages - listed)
    assert not missing, f"add these pages to the toctree of a page above them: {missing}"


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and the site generate them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = [title.lower().strip() for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def test_links_between_pages_lead_somewhere() -> None:
    """On the code host, the root has pages, too."""
    wrong = []
    for page in [*DOC.rglob("*.md"), *DOC.parent.glob("*.md")]:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            if re.match(r"[a-z]+:", link):
                continue
            if not target.exists():
                wrong.append(f"{page.relative_to(DOC.parent)}: {link} leads to no file")
            elif anchor and target.suffix == ".md" and anchor not in anchors_of(target):
                wrong.append(f"{page.relative_to(DOC.parent)}: {link} leads to no heading")
    assert not wrong, "\n".join(["correct these links:", *wrong])
