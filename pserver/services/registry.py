"""The services of an engine, which its client calls by name. doc/protocol.md lists their arguments and results.

A service is not looked up among the user's names, and does not look up any of them: the workspace is plain data here.
So a service works whatever the user's code assigns, even to ``globals`` or ``print``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pconnect.errors import ProtocolError, UnknownServiceError
from pconnect.jobs import broadcast_value, random_streams
from pconnect.programs.machine import find_programs, machine_facts
from pconnect.session.versions import installed, own_versions
from pserver.services.dask_processes import DaskProcesses
from pserver.services.files import SessionFiles
from pserver.services.inspection import describe_names, names_for_completion, values_of
from pserver.services.kept_results import KeptResults
from pserver.services.synced_code import SyncedCode


@dataclass(frozen=True)
class EngineState:
    """The state of one engine that its services work on."""

    names: dict[str, Any]
    #: The files of the session, the client's code, and its Dask clusters.
    files: SessionFiles
    code: SyncedCode
    dask: DaskProcesses
    client_version: str | None  #: the version of this package on the client, if known
    node: int


#: Services by name. Each is called with the `EngineState`, followed by the client's arguments.
SERVICES: Mapping[str, Callable[..., Any]] = {
    "workspace.update": lambda engine, values: engine.names.update(values),
    "workspace.pull": lambda engine, wanted: values_of(engine.names, wanted),
    "workspace.describe": lambda engine: describe_names(engine.names),
    "workspace.complete": lambda engine, text, limit: names_for_completion(engine.names, text)[:limit],
    "files.begin_put": lambda engine, *args: engine.files.begin_put(*args),
    "files.put": lambda engine, *args: engine.files.put(*args),
    "files.begin_get": lambda engine, *args: engine.files.begin_get(*args),
    "files.digests": lambda engine, *args: engine.files.digests(*args),
    "files.get": lambda engine, *args: engine.files.get(*args),
    "files.end": lambda engine, token: engine.files.end(token),
    "code.begin": lambda engine, *args: engine.code.begin(*args),
    "code.apply": lambda engine, token: engine.code.apply(token),
    "broadcast.keep": lambda _, key, value: broadcast_value.keep(key, value),
    "broadcast.forget": lambda _, key: broadcast_value.forget(key),
    "dask.prepare": lambda engine, *args: engine.dask.prepare(*args),
    "dask.start": lambda engine, *args: engine.dask.start(*args),
    "dask.connect": lambda engine, *args: engine.dask.connect(*args),
    "dask.look": lambda engine, *args: engine.dask.look(*args),
    "dask.stop": lambda engine, *args: engine.dask.stop(*args),
    "random.seed": lambda engine, seed: random_streams.begin(seed, (0, 0, engine.node), is_seeded=True),
    "results.kept": lambda engine, kind, number: KeptResults(engine.files).read(_one_of(kind), number),
    "versions.installed": lambda _, packages: installed(packages),
    "programs.find": lambda _, names: find_programs(names),
    "machine.facts": lambda _, names: machine_facts(names),
}


def _one_of(kind: object) -> str:
    if kind not in ("job", "command"):
        raise ProtocolError("results.kept makes no sense: its kind is neither 'job' nor 'command'")
    return str(kind)


def call(engine: EngineState, name: str, args: Sequence[object]) -> Any:
    """Call a service, and return its result.

    Raises `UnknownServiceError` if this server has no service of this name. Nothing was done.
    """
    service = SERVICES.get(name)
    if service is None:
        raise UnknownServiceError(
            f"this server has no service {name!r}: it has pserver {own_versions()['version']}, "
            f"the client {engine.client_version}; install the same version on both"
        )
    return service(engine, *args)
