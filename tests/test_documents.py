"""The examples of the documents run, and print what stands beside them."""

import re
from pathlib import Path

import pytest

from pconnect.values import registry

DOCUMENTS = Path(__file__).parent.parent / "doc"
EXAMPLES = [
    pytest.param(source, id=f"{name} {number}")
    for name in ["bridges.md", *sorted(f"reference/{p.name}" for p in (DOCUMENTS / "reference").glob("*.md"))]
    for number, source in enumerate(
        re.findall(
            r"^```python\n(.*?)^```$",
            (DOCUMENTS / name).read_text(encoding="utf-8"),
            re.MULTILINE | re.DOTALL,
        )
    )
]


@pytest.mark.parametrize("source", EXAMPLES)
def test_an_example_prints_what_it_says(
    source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_entries", {})
    monkeypatch.setattr(registry, "_makers", {})
    exec(compile(source, "<example>", "exec"), {"__name__": "__example__"})
    said = re.findall(r"^ *print\(.*\)  # (.*)$", source, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == said


def test_the_index_of_decisions_has_each_with_its_title() -> None:
    index = (DOCUMENTS / "decisions" / "README.md").read_text(encoding="utf-8")
    for page in sorted((DOCUMENTS / "decisions").glob("0*.md")):
        title = page.read_text(encoding="utf-8").splitlines()[0].partition(". ")[2]
        assert f"| [{page.name[:4]}]({page.name}) | {title} |" in index
