"""`put` and `get`: the meaning of paths, for a node and for a network."""

import os
from pathlib import Path

import pytest

from pconnect import ConfigurationError
from pconnect.views.network_views import ClientNetwork
from tests.support.waiting import DEADLINE


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "a" / "empty").mkdir(parents=True)
    for name in (
        "nothing",
        "a/ün ïcode",
        "a/-rf *\n'\"\\",
        "a/" + os.fsdecode(b"no text \xff"),
        "a/...",
        ".hidden",
    ):
        (root / name).write_text(name * (name != "nothing"), errors="surrogateescape")
    (root / "run").write_text("#!/bin/sh\necho ran")
    (root / "run").chmod(0o755)
    return root


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_a_folder_there_and_back(network: ClientNetwork, tree: Path, tmp_path: Path) -> None:
    paths = network.put(tree)
    assert [Path(path).name for path in paths] == ["tree", "tree"]
    assert paths[0] != paths[1]
    ran = "__import__('subprocess').run([session_files / 'tree' / 'run'], capture_output=True).stdout"
    assert network.eval(ran).result(DEADLINE) == [b"ran\n"] * 2
    got = network.get("tree", tmp_path / "got")
    assert got == [tmp_path / "got" / f"node_{node}" / "tree" for node in (1, 2)]
    for folder in got:
        assert contents(folder) == contents(tree)
        assert (folder / "run").stat().st_mode & 0o777 == 0o755
        assert (folder / "run").stat().st_mtime_ns == (tree / "run").stat().st_mtime_ns
    assert network[2].get("tree", tmp_path / "single") == tmp_path / "single"
    assert contents(tmp_path / "single") == contents(tree)


def test_names_at_both_ends(
    network: ClientNetwork, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(network[1].eval("str(session_files)").result(DEADLINE))
    monkeypatch.chdir(tmp_path)
    node = network[1]
    assert node.put("tree/run") == str(folder / "run")
    assert node.put("tree/run", "deep/er/") == str(folder / "deep" / "er" / "run")
    assert node.put("tree/run", Path("deep", "other")) == str(folder / "deep" / "other")
    assert node.put(tree, ".") == str(folder)
    assert (folder / "a" / "empty").is_dir()
    assert node.put("tree/run", tmp_path / "kept") == str(tmp_path / "kept")
    assert node.get("deep/er/run") == tmp_path / "run"
    assert node.get("run", "local/") == tmp_path / "local" / "run"
    assert node.get(tmp_path / "kept", "local/again") == tmp_path / "local" / "again"
    network.put("tree/run", "both")
    assert network.get("both") == [tmp_path / f"node_{node}" / "both" for node in (1, 2)]
    folders = network.eval("str(session_files)").result(DEADLINE)
    assert network[1:].put("tree/run", "part") == [f"{folder}/part" for folder in folders or []]


def test_paths_that_are_refused(network: ClientNetwork, tree: Path, tmp_path: Path) -> None:
    for remote in ("", "a\0b", "../x", "a/../../x"):
        with pytest.raises((ConfigurationError, ExceptionGroup)):
            network.put(tree, remote)
        with pytest.raises(ConfigurationError):
            network[1].get(remote, tmp_path / "x")
    for local in ("", "a\0b"):
        with pytest.raises(ConfigurationError, match="is not the name of a file"):
            network.put(local)
        with pytest.raises(ConfigurationError, match="is not the name of a file"):
            network[1].get("x", local)
    with pytest.raises(FileNotFoundError, match="none"):
        network.put(tmp_path / "none")
    for remote in (".", "/", "/usr/.."):
        with pytest.raises(ConfigurationError, match="name the local file"):
            network[1].get(remote)
        with pytest.raises(ConfigurationError, match="name the local file"):
            network.get(remote, tmp_path)  # would write to the folder itself
    assert not (tmp_path / "x").exists()


def test_a_folder_and_a_file_do_not_take_each_others_place(network: ClientNetwork, tree: Path) -> None:
    node = network[1]
    node.put(tree, "folder")
    node.put(tree / "run", "file")
    with pytest.raises(IsADirectoryError, match="folder is a folder; give the name of a file"):
        node.put(tree / "run", "folder")
    with pytest.raises(FileExistsError, match="file"):
        node.put(tree, "file")
    assert node.eval("(session_files / 'file').is_file() and (session_files / 'folder').is_dir()").result(
        DEADLINE
    )


def test_modules_find_the_folder_too(network: ClientNetwork) -> None:
    source = "__import__('pserver.services.files', fromlist=['f']).session_files() == session_files"
    assert network.eval(source).result(DEADLINE) == [True, True]
    assert "session_files" not in str(network.who())
