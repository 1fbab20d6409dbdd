"""The rules of the architecture, checked on the source text."""

import ast
import functools
import re
import tomllib
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAYERS = ("srp_tools", "pconnect", "pserver")  # each package imports only packages to its left
MAX_LINES = 400
SOURCES = sorted(path.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES}
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))

# Inside a package a folder imports only folders below it; these lists run from the bottom to the top.
FOLDERS = {
    "srp_tools": [
        "printable", "errors", "packages", "private_files", "steps", "srp_groups", "rules", "credentials",
        "certificates", "channel", "tls", "verifier", "verifier_file", "generate", "login", "cli", "__init__",
    ],
    "pconnect": [
        "errors", "public_names", "toml_file", "remote_entry", "values", "protocol", "link", "loop", "routes",
        "messaging", "commands", "session", "growth", "pool", "statistics", "files", "jobs", "scheduler", "executors",
        "programs", "detach", "dask", "views", "resume", "one_process", "joblib", "notebook", "profiles", "connect",
        "local", "prun", "shadow", "agent", "__init__",
    ],
    "pserver": [
        "config", "logbook", "system", "statistics", "ctl", "limits", "systemd", "accounts", "pool", "jobs", "display",
        "services", "programs", "orphans", "routes", "engine", "spawner", "session", "starter", "duty", "page",
        "daemon", "admin", "pstat", "doctor", "deploy", "demo", "cli", "__init__", "command", "__main__",
    ],
}  # fmt: skip
MAX_MODULES = 15  # modules in a folder
MAX_ATTRIBUTES = 15  # attributes of a class
# One attribute for each option, no state.
TABLES_OF_OPTIONS = (
    "pserver/config/server_config.py:ServerConfig", "pserver/config/session_settings.py:SessionSettings",
    "pconnect/prun/settings.py:Settings", "pserver/routes/setup.py:Setup",
)  # fmt: skip
# Documented module paths that only re-export names from their current modules.
ALIASES = {
    "pconnect/code_sync.py", "pconnect/collectives.py", "pconnect/console.py", "pconnect/job_side.py",
    "pconnect/versions.py",
    "pserver/control.py", "pserver/files.py",
}  # fmt: skip

# The only importers of a module: files, or folders with all their contents. A third-party package has one border, where
# its errors and types become ours.
HOMES = {
    "tlslite": {"srp_tools/login.py"},
    "gmpy2": {"srp_tools/srp_groups.py"},
    "cryptography": {"srp_tools/certificates.py", "pconnect/protocol/server_proof.py"},
    "msgpack": {"pconnect/values/encoder.py", "pconnect/values/decoder.py"},
    "numpy": {
        "pconnect/values",
        "pconnect/messaging",
        "pconnect/views/network_views.py",
        "pconnect/one_process",
        "pconnect/executors/pmap_inputs.py",
        "pconnect/jobs/read_only.py",
        "pconnect/jobs/shared_arrays.py",
        "pconnect/jobs/output_files.py",
        "pconnect/jobs/random_streams.py",
        "pserver/engine",
        "pserver/jobs/process_state.py",
        "pserver/demo",
    },
    "psutil": {"pserver/system"},
    # Only processes that show the page import them.
    "starlette": {"pserver/page"},
    "uvicorn": {"pserver/page/serving.py"},
    "prometheus_client": {"pserver/page/metrics.py"},
    "nh3": {"pconnect/commands/html_sanitizer.py"},
    "tqdm": {"pconnect/loop/terminal_bar.py"},
    # Only joblib imports the backend, and the names on demand.
    "joblib": {"pconnect/joblib"},
    # Imported where a cluster is requested, and in a cluster's processes.
    "distributed": {"pconnect/dask/client.py", "pserver/services/dask_process.py"},
    "dask": set(),
    # Dask is built on it.
    "tornado": {"pconnect/dask/dashboard.py", "pserver/services/dask_process.py"},
    # Optional packages: only `optional_types` imports these modules.
    "scipy": {"pconnect/values/scipy_sparse.py"},
    "polars": {"pconnect/values/packages/polars_frames.py"},
    "xarray": {"pconnect/values/packages/xarray_arrays.py"},
    "torch": {"pconnect/values/packages/torch_tensors.py"},
    "jax": {"pconnect/values/packages/jax_arrays.py"},
    "ml_dtypes": {"pconnect/values/packages/ml_arrays.py"},
    "pyarrow": {
        "pconnect/values/arrow.py",
        "pconnect/values/pandas_frames.py",
        "pconnect/values/packages/polars_frames.py",
    },
    "pandas": {"pconnect/values/pandas_frames.py", "pconnect/values/pandas_scalars.py"},
    # matplotlib finds this backend by its name; it is imported only after matplotlib.
    "matplotlib": {"pserver/display/matplotlib_backend.py", "pserver/demo/picture.py"},
    "IPython": {
        "pconnect/commands/front_end_messages.py",  # only where IPython is already running
        "pconnect/notebook",  # only where IPython has loaded the extension
    },
    "threading": {
        "pserver/display/outbox.py",  # the user's code may have threads, whose messages are queued; starts none
        "pconnect/loop/interrupts.py",  # finds the thread that gets signals, has a lock for all; starts none
        "pconnect/loop/turns.py",  # records which of the user's threads waits in the selector; starts none
        "pconnect/scheduler",  # the thread that assigns jobs, so they continue while the client computes
        "pconnect/executors",  # any thread can submit functions; they start none
        "pconnect/jobs",  # the condition of a future; starts none
        "pconnect/notebook/cells.py",  # checks for the main thread, where cells run; starts none
        "pconnect/one_process/executor.py",  # the lock of the class that it extends; starts none
        "pconnect/dask/adaptive.py",  # workers of Dask come and go while the client computes
        "pconnect/pool/following.py",  # adds servers of the pool while jobs wait, whatever the client does
        "pconnect/statistics/dashboard.py",  # answers a page while a notebook waits for its next cell
        "pconnect/programs",  # the ends of streams, which wait for the job thread; start none
        "pconnect/agent",  # networks are made in threads; the job thread writes the programs' output
        "pconnect/commands/console.py",  # output of jobs and of commands arrives in different threads; starts none
        "pserver/session/session.py",  # one supervisor for each node of a session; they share nothing
        "pserver/programs/program.py",  # a thread has its own priority, which its children inherit
        "pserver/routes/splicer.py",  # relays forward bytes while supervisors wait, and the other way round
        "pserver/engine/result_sender.py",  # a job may have threads, which report progress; starts none
        "pconnect/link/host_names.py",  # the system's name look-up has no time limit and cannot be cancelled
    },
}
SANS_IO = {
    "pconnect/values",
    "pconnect/protocol",
    "pconnect/pool/closure.py",
    "pconnect/pool/numbering.py",
    "pconnect/session/deadlock_detector.py",
    "pconnect/session/failure_log.py",
    "pconnect/session/node_state.py",
    "pconnect/session/running_commands.py",
    "pserver/limits/session_watch.py",
    "pserver/limits/time_limit.py",
    "pserver/session/lifecycle.py",
    "srp_tools/printable.py",
    "srp_tools/rules",
    "pconnect/commands/css_sanitizer.py",
    "pconnect/commands/print_filter.py",
    "pconnect/shadow/compiler_options.py",
    "pconnect/shadow/compiler_words.py",
    "pconnect/shadow/source",
}
IO_MODULES = {"socket", "select", "selectors", "ssl", "threading", "subprocess", "time", "signal"}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}

PICKLES_HERE = {
    "pconnect/commands/function_pickling.py": {"cloudpickle"},  # functions on their way to engines
    "pconnect/remote_entry.py": {"cloudpickle"},  # batches of joblib's tasks, in a worker
    "tests/pconnect/commands/test_remote_errors.py": {
        "pickle"
    },  # errors pass through process pools of other packages
}

# Modules with tests elsewhere: entry points of command lines, which their tests run; the daemon, which every
# integration test starts; and modules that every call of `prun` needs.
TESTED_ELSEWHERE = (
    "pserver/__main__.py", "pserver/daemon/daemon.py", "pconnect/prun/__main__.py", "pconnect/agent/__main__.py",
    "pconnect/agent/callers.py",
    "pconnect/agent/plans.py", "pconnect/agent/shared.py",
)  # fmt: skip
# Modules whose tests do not fit into one file.
SECOND_FILES = {
    "tests/pserver/daemon/test_slot_shares.py", "tests/pserver/daemon/test_slots_held.py",
    "tests/pconnect/values/test_codec.py", "tests/pconnect/values/test_named_objects.py",
    "tests/srp_tools/test_bad_lines.py", "tests/srp_tools/test_login_begins.py",
    "tests/srp_tools/test_command_line.py", "tests/srp_tools/test_fingerprints.py",
}  # fmt: skip


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


@functools.cache
def imported(tree: ast.AST) -> set[str]:
    """Return the dotted names of all imported modules, also inside functions; relative ones begin with a dot."""
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
    """Return the faults that `rule` finds, by file."""
    return {path.as_posix(): wrong for path in paths if (wrong := rule(path))}


def test_the_lists_name_files_that_exist() -> None:
    named = SANS_IO.union(TESTED_ELSEWHERE, SECOND_FILES, ALIASES, PICKLES_HERE, *HOMES.values())
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


def is_in(path: Path, places: set[str]) -> bool:
    """Return whether a file, or a folder above it, is listed."""
    return not places.isdisjoint(place.as_posix() for place in (path, *path.parents))


def floor(module: str) -> int | None:
    """Return the position of a module's folder in its package's list, or ``None`` for modules of other projects."""
    package, *rest = module.split(".")
    if package not in FOLDERS:
        return None
    return FOLDERS[package].index(rest[0] if rest else "__init__")


def modules_used(path: Path) -> set[str]:
    """Return the project's modules that a file imports, whether as modules or for their names."""
    found = imported(parsed(path))
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found & MODULES.keys()


def test_a_folder_imports_only_folders_below() -> None:
    def rule(path: Path) -> object:
        package, folder = path.parts[0], Path(path.parts[1]).stem
        own = FOLDERS[package].index(folder)
        used = {name for name in modules_used(path) if name.startswith(f"{package}.")}
        return sorted(name for name in used if (other := floor(name)) is not None and other > own)

    inside = [path for path in SOURCES if path.as_posix() not in ALIASES]
    assert offenders(inside, rule) == {}


def test_no_module_imports_itself_in_a_circle() -> None:
    """Imports for type checking and inside functions count."""
    graph = {
        name: modules_used(path) - {name} for name, path in MODULES.items() if path.name != "__init__.py"
    }
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    folders = {path.parent for path in SOURCES}
    sizes = {folder.as_posix(): len(list((ROOT / folder).glob("[!_]*.py"))) for folder in folders}
    assert {folder: size for folder, size in sizes.items() if size > MAX_MODULES} == {}


def attributes(node: ast.ClassDef) -> set[str]:
    """Return the names that a class declares or assigns on ``self``."""
    found = {
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    for each in ast.walk(node):
        if (
            isinstance(each, ast.Attribute)
            and isinstance(each.ctx, ast.Store)
            and isinstance(each.value, ast.Name)
            and each.value.id == "self"
        ):
            found.add(each.attr)
    return found


def test_a_class_has_few_attributes() -> None:
    sizes = {
        f"{path.as_posix()}:{node.name}": len(attributes(node))
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef)
    }
    for table in TABLES_OF_OPTIONS:
        del sizes[table]
    assert {name: size for name, size in sizes.items() if size > MAX_ATTRIBUTES} == {}


def test_fenced_modules_stay_at_home() -> None:
    def rule(path: Path) -> object:
        used = packages(parsed(path))
        return [name for name, homes in HOMES.items() if name in used and not is_in(path, homes)]

    assert offenders(SOURCES, rule) == {}


def test_the_core_does_no_input_or_output() -> None:
    core = [path for path in SOURCES if is_in(path, SANS_IO)]
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
        path
        for path in SOURCES
        if path.name != "__init__.py" and path.as_posix() not in ALIASES.union(TESTED_ELSEWHERE)
    ]
    assert offenders(tested_here, rule) == {}


def test_a_test_has_its_module() -> None:
    """Tests of several modules are in `tests.integration`, and code shared by tests is in `tests.support`."""

    def rule(path: Path) -> object:
        home = Path(*path.parts[1:-1])
        return not any((ROOT / home / name).exists() for name in (path.name[5:], f"__{path.stem[5:]}__.py"))

    mirrors = [path for path in TESTS if path.parts[1] in LAYERS and path.as_posix() not in SECOND_FILES]
    tests = [path for path in mirrors if path.name not in {"__init__.py", "conftest.py"}]
    assert [path.as_posix() for path in tests if not path.name.startswith("test_")] == []
    assert offenders(tests, rule) == {}


def test_hooks_use_the_pinned_versions() -> None:
    """`.pre-commit-config.yaml` installs its own copies of tools; their versions must match the extra "dev"."""
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    hooks = re.findall(r'additional_dependencies: \["(.*)"\]', (ROOT / ".pre-commit-config.yaml").read_text())
    assert hooks and set(hooks) <= set(dev)
