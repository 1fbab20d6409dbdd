"""The files of a folder that are sent, and those that are left out."""

import os
from pathlib import Path

import pytest

from pconnect import ConfigurationError
from pconnect.files.code_listing import CodeListing, list_code


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}")


def texts(tree: CodeListing) -> dict[str, str]:
    return {facts.name: (tree.root / facts.name).read_text() for facts in tree.listing.files}


def test_a_package_has_its_name(tmp_path: Path) -> None:
    write(tmp_path / "ocean", "__init__.py", "waves.py", "deep/__init__.py", "deep/data/depths.csv")
    tree = list_code(tmp_path / "ocean")
    assert texts(tree) == {
        "ocean/__init__.py": "# __init__.py",
        "ocean/deep/__init__.py": "# deep/__init__.py",
        "ocean/deep/data/depths.csv": "# deep/data/depths.csv",
        "ocean/waves.py": "# waves.py",
    }
    assert tree.listing.folders == []
    assert {facts.mode for facts in tree.listing.files} == {0o600}
    assert tree.key == "module ocean"


def test_a_folder_of_modules_and_a_single_one(tmp_path: Path) -> None:
    write(tmp_path, "waves.py", "tools/wind.py")
    assert texts(list_code(tmp_path)) == {"waves.py": "# waves.py", "tools/wind.py": "# tools/wind.py"}
    assert texts(list_code(tmp_path / "waves.py")) == {"waves.py": "# waves.py"}
    assert list_code(tmp_path / "waves.py").key == "module waves"


def test_a_path_is_what_it_is_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ocean", "__init__.py")
    monkeypatch.chdir(tmp_path / "ocean")
    for path in (".", "../ocean/", str(tmp_path / "ocean")):
        assert [*texts(list_code(path))] == ["ocean/__init__.py"]
    (tmp_path / "sea").symlink_to("ocean")
    assert [*texts(list_code("../sea"))] == ["sea/__init__.py"]


def test_what_is_hidden_made_or_left_over_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "a.py~", "#a.py#", ".#a.py", ".a.py.swp", "a.swp", "a.pyc", "__pycache__/a.txt")
    write(tmp_path, ".git/config.py", ".hidden.py", "env/pyvenv.cfg", "env/lib/b.py")
    os.mkfifo(tmp_path / "pipe.py")
    assert [*texts(list_code(tmp_path))] == ["a.py"]


def test_links_inside_are_files_and_others_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "secret.py", "tree/a.py", "tree/folder/b.py")
    tree = tmp_path / "tree"
    links = {
        "same.py": "a.py",
        "out.py": "../secret.py",
        "folder2": "folder",
        "round": ".",
        "broken.py": "x",
    } | {"itself.py": "itself.py"}
    for name, target in links.items():
        (tree / name).symlink_to(target)
    assert texts(list_code(tree)) == {"a.py": "# tree/a.py", "folder/b.py": "# tree/folder/b.py"} | {
        "same.py": "# tree/a.py"
    }


def test_too_many_files_name_the_folder_of_most(tmp_path: Path) -> None:
    write(tmp_path, "a.py", *(f"data/{number}.txt" for number in range(10)))
    assert len(list_code(tmp_path, max_files=11).listing.files) == 11
    with pytest.raises(ConfigurationError, match=r"max_files=10 files, 10 of them in the folder 'data'"):
        list_code(tmp_path, max_files=10)


def test_too_many_bytes_name_the_largest(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "b.py", "c.py", "d.py")
    (tmp_path / "large.bin").write_bytes(bytes(2**20))
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert len(list_code(tmp_path, max_bytes=size).listing.files) == 5
    with pytest.raises(
        ConfigurationError, match=r"1\.0 MiB of code .* the largest files: large\.bin \(1\.0 MiB\)"
    ):
        list_code(tmp_path, max_bytes=size - 1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "does not exist"),
        ("my-module.py", "'my-module' is not a valid module name"),
        ("my-package", "'my-package' is not a valid module name"),
        ("notes", "no Python module"),
        ("notes/a.txt", "does not end in .py"),
    ],
)
def test_what_cannot_be_imported(tmp_path: Path, name: str, words: str) -> None:
    write(tmp_path, "my-module.py", "my-package/__init__.py", "notes/a.txt")
    with pytest.raises(ConfigurationError, match=words):
        list_code(tmp_path / name)


def test_a_backslash_in_a_name(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "b\\c.py")
    with pytest.raises(ConfigurationError, match="backslash"):
        list_code(tmp_path)
