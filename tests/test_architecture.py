"""The rules of the architecture, checked on the source text."""

import ast
import functools
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAYERS = ("srp_tools", "pconnect", "pserver")  # each imports only those left of it
MAX_LINES = 400
SOURCES = sorted(path.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))

# The only homes of a module. A third-party package has one border, where its errors and types become ours.
HOMES = {
    "tlslite": {"srp_tools/login.py"},
    "cryptography": {"srp_tools/certificates.py"},
    "msgpack": {"pconnect/codec.py", "pconnect/small_values.py"},
    "numpy": {
        *(f"pconnect/{name}.py" for name in ("codec", "small_values", "trees", "value_types", "arrays")),
        *(
            f"pconnect/{name}.py"
            for name in (
                "reductions",
                "broadcasts",
                "collectives",
                "views",
                "job_map",
                "shared_arrays",
                "job_outputs",
            )
        ),
        *(f"pconnect/{name}.py" for name in ("sparse_types", "arrow_types", "pandas_types")),
        "pserver/engine.py",
        "pserver/workspace.py",
        "pserver/worker.py",
        "pserver/job_folders.py",
        *(path.as_posix() for path in SOURCES if path.match("pserver/demo*.py")),
    },
    "tqdm": {"pconnect/gauges.py"},
    # Nobody imports the backend but joblib, and the names only on demand.
    "joblib": {"pconnect/joblib_backend.py", "pconnect/joblib_names.py"},
    # Imported where a cluster is asked for, and in the processes of one.
    "distributed": {"pconnect/dask_client.py", "pserver/dask_process.py"},
    "dask": set(),
    # Packages that may be missing: nothing but `optional_types` imports these modules.
    "scipy": {"pconnect/sparse_types.py"},
    "pyarrow": {"pconnect/arrow_types.py", "pconnect/pandas_types.py"},
    "pandas": {"pconnect/pandas_types.py"},
    # The backend that an engine's user finds by its name; nobody else imports it before he has imported matplotlib.
    "matplotlib": {"pserver/figures.py", "pserver/demo_picture.py"},
    "IPython": {
        "pconnect/notes.py",  # only where it runs already
        "pconnect/magics.py",  # these two only where it has loaded the extension
        "pconnect/completion.py",
    },
    "threading": {
        "pserver/notes.py",  # the user's code may have threads, whose notes are queued; starts none
        "pconnect/shield.py",  # asks whether it is the main thread, which gets the signals; starts none
        "pconnect/dispatcher.py",  # the thread that looks after jobs, so that they go on while the client computes
        "pconnect/executor.py",  # executors and
        "pconnect/conditions.py",  # the condition of a future; starts none
        "pconnect/jobs.py",  # functions are used by whichever thread submits; they start none
        "pconnect/gates.py",  # jobs end in another thread than that which submits them
        "pconnect/pool.py",
        "pconnect/shared_arrays.py",
        "pserver/status_page.py",  # a lock orders memory accesses of two processes
        "pserver/worker.py",  # a job may have threads, which report progress; starts none
        "pconnect/hosts.py",  # the system's look-up of names has no time limit and cannot be cancelled
    },
}
SANS_IO = {
    f"pconnect/{name}.py"
    for name in (
        "frames", "codec", "trees", "value_types", "arrays", "small_values", "protocol", "parts", "optional_types",
        "registered_types", "sparse_types", "arrow_types", "pandas_types", "deadlocks",
    )
}  # fmt: skip
IO_MODULES = {"socket", "select", "selectors", "ssl", "threading", "subprocess", "time", "signal"}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}

PICKLES_HERE = {
    "pconnect/functions.py": {"cloudpickle"},  # functions on their way to engines
    "tests/pconnect/test_remote_errors.py": {"pickle"},  # errors pass through others' process pools
}

# Modules whose tests are elsewhere: the entry of the command line, which its tests run, and the daemon, which every
# integration test starts.
TESTED_ELSEWHERE = ("pserver/__main__.py", "pserver/daemon.py")


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> set[str]:
    """Return the dotted names of all modules imported, also inside functions; a relative one has a dot."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=module, level=level):
                found.add("." * level + (module or ""))
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str() as name), *_],
            ):
                found.add(name)
    return found


def packages(tree: ast.AST) -> set[str]:
    return {name.split(".")[0] for name in imported(tree)}


def offenders(paths: list[Path], rule: Callable[[Path], object]) -> dict[str, object]:
    """Return what is wrong by file, for the files where `rule` finds something."""
    return {path.as_posix(): wrong for path in paths if (wrong := rule(path))}


def test_the_lists_name_files_that_exist() -> None:
    named = SANS_IO.union(TESTED_ELSEWHERE)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_a_layer_imports_only_those_below() -> None:
    def rule(path: Path) -> object:
        layer = LAYERS.index(path.parts[0])
        return packages(parsed(path)) & {*LAYERS[layer + 1 :], "tests"}

    assert offenders(SOURCES, rule) == {}


def test_imports_are_absolute() -> None:
    def rule(path: Path) -> object:
        return [name for name in imported(parsed(path)) if name.startswith(".")]

    assert offenders(SOURCES, rule) == {}


def test_fenced_modules_stay_at_home() -> None:
    def rule(path: Path) -> object:
        used = packages(parsed(path))
        return [name for name, homes in HOMES.items() if name in used and path.as_posix() not in homes]

    assert offenders(SOURCES, rule) == {}


def test_the_core_does_no_input_or_output() -> None:
    core = [path for path in SOURCES if path.as_posix() in SANS_IO]
    assert offenders(core, lambda path: packages(parsed(path)) & IO_MODULES) == {}


def test_no_star_and_no_pickle() -> None:
    def rule(path: Path) -> object:
        stars = {
            node.name for node in ast.walk(parsed(path)) if isinstance(node, ast.alias) and node.name == "*"
        }
        return stars | (packages(parsed(path)) & PICKLES - PICKLES_HERE.get(path.as_posix(), set()))

    assert offenders(SOURCES + TESTS, rule) == {}


def test_a_file_can_be_read_at_one_go() -> None:
    def rule(path: Path) -> object:
        lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
        return lines if lines > MAX_LINES else 0

    assert offenders(SOURCES + TESTS, rule) == {}


def test_a_module_has_its_tests() -> None:
    def rule(path: Path) -> object:
        return not (ROOT / "tests" / path.parent / f"test_{path.name}").exists()

    tested_here = [
        path for path in SOURCES if path.name != "__init__.py" and path.as_posix() not in TESTED_ELSEWHERE
    ]
    assert offenders(tested_here, rule) == {}
