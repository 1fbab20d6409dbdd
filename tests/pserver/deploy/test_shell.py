"""The input for a shell, and the shell's result."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pserver.deploy.shell import candidates, command_and_input, read_answer, script, why_no_python

MARK = "@0123@"


def fake(folder: Path, name: str, version: str, *, venv: bool = True) -> None:
    """Create a program that answers like a Python of some version, and reports that it was chosen."""
    (folder / name).write_text(
        "#!/bin/sh\n"
        f'case "$*" in *exec*) echo; echo "{MARK}{{\\"done\\": \\"{name}\\"}}";; '
        f"*ensurepip*) {f'echo {version}' if venv else 'exit 1'};; *) echo {version};; esac\n"
    )
    (folder / name).chmod(0o755)


def run(folder: Path, *arguments: str | None) -> list[dict[str, object] | None]:
    done = subprocess.run(
        ["/bin/sh", "-c", script(MARK, 10, *arguments)],
        env={"PATH": str(folder), "HOME": str(folder)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return [answer for line in done.stdout.splitlines() if (answer := read_answer(MARK, line))]


OURS = f"python3.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ({"python3": "3.12"}, "python3"),
        ({"python3": "3.9", "python3.14": "3.14"}, "python3.14"),
        ({"python3": "3.12", OURS: f"3.{sys.version_info.minor}"}, OURS),
        ({"python": "3.20"}, "python"),
    ],
)
def test_a_python_is_found_and_first_one_like_ours(
    tmp_path: Path, there: dict[str, str], chosen: str
) -> None:
    for name, version in there.items():
        fake(tmp_path, name, version)
    assert run(tmp_path)[-1] == {"done": chosen}


def test_one_in_a_usual_place_is_found(tmp_path: Path) -> None:
    (tmp_path / "miniconda3/bin").mkdir(parents=True)
    fake(tmp_path / "miniconda3/bin", "python3", "3.13")
    assert any(answer == {"done": "python3"} for answer in run(tmp_path))


def test_those_that_cannot_be_used_are_reported(tmp_path: Path) -> None:
    fake(tmp_path, "python3", "3.9")
    fake(tmp_path, "python3.12", "3.12", venv=False)
    fake(tmp_path, "python", "2.7")
    answers = run(tmp_path, None)
    assert {"tried": f"{tmp_path}/python3 (3.9)"} in answers
    assert {"tried": f"{tmp_path}/python3.12 (3.12, without venv)"} in answers


def test_the_one_that_was_named_is_the_only_one(tmp_path: Path) -> None:
    fake(tmp_path, "python3", "3.12")
    (tmp_path / "my own").mkdir()
    fake(tmp_path / "my own", "py", "3.13")
    assert run(tmp_path, f"{tmp_path}/my own/py") == [{"done": "py"}]
    assert run(tmp_path, "~/my own/py") == [{"done": "py"}]
    assert run(tmp_path, "~/missing") == [{"no": "python"}]
    fake(tmp_path, "old", "3.10")
    assert run(tmp_path, "old") == [{"tried": f"{tmp_path}/old (3.10)"}, {"no": "python"}]


def test_candidates_have_no_doubles() -> None:
    assert candidates(None)[0] == OURS
    assert len(set(candidates(None))) == len(candidates(None))


@pytest.mark.parametrize(
    ("tried", "python", "texts"),
    [
        ([], None, ["found no Python", "--python alpha=PATH", "--setup"]),
        (["/usr/bin/python3 (3.9)"], None, ["only found /usr/bin/python3 (3.9)", "3.11"]),
        (["/usr/bin/python3 (3.11, without venv)"], None, ["python3-venv"]),
        ([], "/opt/py", ["/opt/py cannot be run"]),
        (["/opt/py (3.9)"], "/opt/py", ["/opt/py is /opt/py (3.9)"]),
    ],
)
def test_why_there_is_no_python(tried: list[str], python: str | None, texts: list[str]) -> None:
    said = why_no_python(tried, python, "alpha")
    assert [text for text in texts if text not in said] == []


def test_the_line_for_the_login_shell_means_the_same_in_all_of_them() -> None:
    """It has nothing that csh or fish treat specially: one pair of single quotes, no line break, no history."""
    line, given = command_and_input(MARK, {"do": "look"}, None, "it's \\ a ! test\n$HOME")
    assert line.startswith("/bin/sh -c '")
    assert line.count("'") == 2
    assert not set(line) & set("\n\\!`~*?[]{}<>;&|#")
    size = int(line.split()[-1].rstrip(")\"'"))
    assert given[size:].startswith(b'"""')
    assert json.loads(given.splitlines()[-1]) == {"do": "look"}
