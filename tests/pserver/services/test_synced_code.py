"""Trees of code in an engine, created in this process: imports, refusals, and the state after failures."""

import importlib
import io
import os
import sys
import tempfile
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import UnreadableValueError
from pconnect.files.listing import Listing, list_tree
from pconnect.files.partial_file import RunningHash
from pconnect.files.transfer_ends import Agreement, Outgoing
from pserver.services.files import SessionFiles
from pserver.services.synced_code import SyncedCode
from srp_tools.errors import ConfigurationError


@pytest.fixture(autouse=True)
def own_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def code(tmp_path: Path) -> SyncedCode:
    return made_in(tmp_path)


def made_in(folder: Path, in_use: Sequence[str] = ("numpy.linalg", "json")) -> SyncedCode:
    return SyncedCode(SessionFiles(folder, 0), in_use)


def packed(names: Iterable[Any], size: int = 1) -> list[Any]:
    """Return a listing in the form that a client, or a hostile one, sends."""
    return [True, [], [[name.encode() if isinstance(name, str) else name, size, 0o600, 0] for name in names]]


def apply(code: SyncedCode, texts: dict[str, str], key: str = "tree") -> tuple[list[str], list[str]]:
    """Send a tree like a client; return the file contents that had to be sent, and the names that changed."""
    with tempfile.TemporaryDirectory() as folder:
        for number, text in enumerate(texts.values()):
            Path(folder, str(number)).write_text(text)
        sources = list_tree(Path(folder)).files
        listing = Listing(
            True, [], [facts._replace(name=name) for name, facts in zip(texts, sources, strict=True)]
        )
        offers = code.begin(b"token", key, listing.pack())
        outgoing = Outgoing(Path(folder), Listing(True, [], sources))
        agreement = Agreement.of(offers, outgoing.digests(offers))
        pieces = [piece for batch in agreement.batches(listing) for piece in outgoing.read(batch)]
        code.files.put(b"token", agreement.kept, pieces)
        changed = code.apply(b"token")
    return [bytes(data).decode() for _, _, data, _ in pieces], changed


def load(name: str) -> Any:
    return importlib.import_module(name)


def test_only_what_is_lacking_is_sent(code: SyncedCode) -> None:
    texts = {"synced_a.py": "x = 1", "synced_b.py": "x = 2", "data/table.txt": "1 2 3"}
    assert apply(code, texts) == (["x = 1", "x = 2", "1 2 3"], sorted(texts))
    assert apply(code, texts) == ([], [])
    assert apply(code, texts | {"synced_b.py": "x = 3"}) == (["x = 3"], ["synced_b.py"])
    assert apply(code, {"synced_c.py": "x = 1"}) == (["x = 1"], sorted([*texts, "synced_c.py"]))
    assert apply(code, {"synced_d.py": "x = 1"}, "other") == (["x = 1"], ["synced_d.py"])


def test_an_import_gives_the_newest(code: SyncedCode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for value in range(5):  # same length and mostly the same second: times and sizes do not differ
        apply(code, {"synced_a.py": f"x = {value}"})
        assert load("synced_a").x == value
        assert Path(load("synced_a").__cached__).exists()


def test_unchanged_modules_stay(code: SyncedCode) -> None:
    apply(code, {"synced_a.py": "x = []"})
    module = load("synced_a")
    apply(code, {"synced_a.py": "x = []"})
    assert load("synced_a") is module


def test_all_modules_of_a_tree_that_changed_are_read_anew(code: SyncedCode) -> None:
    texts = {"synced_p/__init__.py": "from synced_p.sub import x", "synced_p/sub.py": "x = 1"}
    apply(code, texts)
    old = load("synced_p")
    kept = old.__dict__
    apply(code, texts | {"synced_p/sub.py": "x = 2"})
    assert load("synced_p").x == 2
    assert kept["x"] == 1


def test_modules_of_a_folder_without_init_are_read_anew(code: SyncedCode) -> None:
    apply(code, {"synced_n/sub.py": "x = 1"})
    assert load("synced_n.sub").x == 1
    apply(code, {"synced_n/sub.py": "x = 2"})
    names: dict[str, Any] = {}
    exec("from synced_n import sub", names)
    assert names["sub"].x == 2


def test_it_comes_before_what_was_imported_from_elsewhere(
    code: SyncedCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "synced_a.py").write_text("x = 'elsewhere'")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    assert load("synced_a").x == "elsewhere"
    apply(code, {"synced_a.py": "x = 'synced'"})
    assert load("synced_a").x == "synced"
    del sys.modules["synced_a"]
    sys.path.insert(0, str(tmp_path / "elsewhere"))
    assert load("synced_a").x == "elsewhere"
    assert apply(code, {"synced_a.py": "x = 'synced'"}) == ([], [])
    assert load("synced_a").x == "synced"


def test_what_a_package_made_by_itself_stays_while_it_does(code: SyncedCode) -> None:
    apply(code, {"synced_p/__init__.py": "x = 1"})
    load("synced_p")
    made = sys.modules["synced_p.made"] = types.ModuleType("synced_p.made")
    apply(code, {"synced_p/__init__.py": "x = 1"})
    assert sys.modules["synced_p.made"] is made
    apply(code, {"synced_p/__init__.py": "x = 2"})
    assert "synced_p.made" not in sys.modules


def test_a_deleted_file_is_gone(code: SyncedCode) -> None:
    apply(code, {"synced_a.py": "x = 1", "synced_b.py": "x = 2"})
    load("synced_b")
    assert apply(code, {"synced_a.py": "x = 1"}) == ([], ["synced_b.py"])
    with pytest.raises(ModuleNotFoundError):
        load("synced_b")


def test_a_file_that_was_changed_here_is_sent_again(code: SyncedCode) -> None:
    apply(code, {"synced_a.py": "x = 1", "note.txt": "right"})
    note = Path(load("synced_a").__file__).parent / "note.txt"
    note.write_text("wrong")
    os.utime(note, ns=(0, 0))
    assert apply(code, {"synced_a.py": "x = 1", "note.txt": "right"}) == (["right"], ["note.txt"])
    assert (Path(load("synced_a").__file__).parent / "note.txt").read_text() == "right"


def test_two_states_are_kept_and_no_more(code: SyncedCode, tmp_path: Path) -> None:
    places = []
    for value in range(4):
        apply(code, {"synced_a.py": f"x = {value}"})
        places.append(Path(load("synced_a").__file__))
    assert [place.exists() for place in places] == [False, False, True, True]
    assert len(list((tmp_path / "code").iterdir())) == 2
    assert [entry for entry in sys.path if entry.startswith(str(tmp_path))] == [str(places[-1].parent)]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "../a.py", "a/../../b.py", "a/..", "..", ".", "", "a//b.py", "a/./b.py", "a/", "..\\a.py",
        "a\\b.py", "C:\\a.py", "a\0b.py",
    ],
)  # fmt: skip
def test_hostile_names_are_refused_and_nothing_is_written(
    code: SyncedCode, tmp_path: Path, name: Any
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UnreadableValueError, match="not the name of a file inside a folder"):
        code.begin(b"token", "tree", packed(["good.py", name]))
    assert sorted(tmp_path.rglob("*")) == before
    assert sys.modules.get("good") is None


@pytest.mark.parametrize("what", [packed([]), [False, [], [[b"", 1, 0o600, 0]]], packed([5]), {}])
def test_what_is_no_tree_is_refused(code: SyncedCode, what: Any) -> None:
    with pytest.raises((ConfigurationError, UnreadableValueError)):
        code.begin(b"token", "tree", what)


@pytest.mark.parametrize("name", ["json.py", "json/__init__.py", "numpy.py", "numpy.cpython-311.so"])
def test_what_the_engine_needs_is_not_hidden(code: SyncedCode, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"would hide the module '(json|numpy)'"):
        code.begin(b"token", "tree", packed([name]))


def test_data_and_submodules_of_such_names_hide_nothing(code: SyncedCode) -> None:
    apply(code, {"json/data.txt": "1", "synced_p/__init__.py": "", "synced_p/json.py": "x = 1"})
    assert load("json").loads("1") == 1
    assert load("synced_p.json").x == 1


def test_the_workspace_is_not_hidden(code: SyncedCode) -> None:
    main = sys.modules["__main__"]
    apply(code, {"__main__.py": "x = 1", "synced_a.py": "x = 1"})
    assert sys.modules["__main__"] is main


def test_a_failure_leaves_what_was(code: SyncedCode, tmp_path: Path) -> None:
    apply(code, {"synced_a.py": "x = 1"})
    with pytest.raises(OSError):  # the same name is a file and a folder
        apply(code, {"synced_a.py": "x = 2", "a": "1", "a/b": "2"})
    code.begin(b"token", "tree", packed(["synced_a.py"]))
    with pytest.raises(FileNotFoundError, match=r"1 files .* did not arrive"):
        code.apply(b"token")
    with pytest.raises(ConfigurationError, match="begin again"):
        code.apply(b"token")
    assert len(list((tmp_path / "code").iterdir())) == 1
    assert load("synced_a").x == 1
    assert apply(code, {"synced_a.py": "x = 2"}) == (["x = 2"], ["synced_a.py"])
    assert load("synced_a").x == 2


def test_a_new_engine_begins_with_nothing(tmp_path: Path) -> None:
    apply(made_in(tmp_path), {"synced_a.py": "x = 1"})
    assert apply(made_in(tmp_path), {"synced_a.py": "x = 1"})[0] == ["x = 1"]
    assert len(list((tmp_path / "code").iterdir())) == 1


def test_strange_modules_are_left_alone(code: SyncedCode) -> None:
    class Touchy(types.ModuleType):
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"{name} was looked up")

    for name, module in (("synced_x", Touchy("synced_x")), ("synced_y", None)):
        sys.modules[name] = module  # type: ignore[assignment]
    apply(code, {"synced_a.py": "x = 1"})
    assert "synced_x" in sys.modules
    assert "synced_y" in sys.modules


def test_an_interrupted_transfer_is_resumed(code: SyncedCode) -> None:
    texts = {"synced_a.py": "x = 1", "synced_b.py": "x = 2", "synced_c.py": "x = 3"}
    apply(code, {"synced_a.py": "x = 1", "left.py": ""})
    offers = code.begin(b"1", "tree", packed(texts, 5))
    assert [offer[0] for offer in offers] == [0]
    code.files.put(b"1", [], [[1, 0, b"x = 2", RunningHash.of(io.BytesIO(b"x = 2")).digest()]])
    code.files.put(b"1", [], [[2, 0, b"x", None]])
    code.files.end()
    assert load("synced_a").x == 1
    with pytest.raises(ModuleNotFoundError):
        load("synced_b")
    offers = code.begin(b"2", "tree", packed(texts, 5))
    assert [(index, size, is_part) for index, size, _, is_part in offers] == [
        (0, 5, False), (1, 5, False), (2, 1, True),
    ]  # fmt: skip
    assert apply(code, texts)[1] == ["left.py", "synced_b.py", "synced_c.py"]
    assert load("synced_b").x + load("synced_c").x == 5
    names = {path.name for path in Path(load("synced_a").__file__).parent.iterdir()}
    assert names - {"__pycache__"} == set(texts)


def test_no_tree_hides_what_the_engine_has_loaded(tmp_path: Path) -> None:
    code = made_in(tmp_path, list(sys.modules))
    assert code.begin(b"token", "tree", packed(["synced_a.py"])) == []
    with pytest.raises(ConfigurationError, match="would hide the module 'sys'"):
        code.begin(b"token", "tree", packed(["sys.py"]))
