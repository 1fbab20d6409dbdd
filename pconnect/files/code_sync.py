"""The client's own modules at the engines: what has changed since the last time, and nothing else, is sent."""

import os
from collections import defaultdict

from pconnect.commands.command import Command
from pconnect.commands.command_list import Commands
from pconnect.files.code_tree import DEFAULT_MAX_BYTES, DEFAULT_MAX_FILES, CodeTree, read_tree
from pconnect.link.connection import Connection
from pconnect.messaging.send_receive import Connections, resolve
from pconnect.session.remote_calls import call_service
from srp_tools.steps import deadline_after, remaining

_APPLY = "code.apply"  # the service that does it at an engine


def sync_code(
    path: str | os.PathLike[str],
    connections: Connections,
    *,
    timeout: float = 60.0,
    max_files: int = DEFAULT_MAX_FILES,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> list[str]:
    """Let engines import a package or modules of the client, as they are now.

    An engine tells first which contents it lacks, by SHA-256; only these are sent. If anything has changed, the modules
    that it had imported from there are forgotten, so that the next ``import`` gives the new ones; what was made of the
    old stays what it is: objects keep their class, and names in the workspace their modules, until they are imported
    again. Each state gets a folder of its own in the engine's session, which is removed with the session; it is there
    whole or not at all. What is left out stands in doc/reference/code.md.

    Parameters
    ----------
    path
        A package (a folder with ``__init__.py``), which is imported by the folder's name; or a folder of modules, or a
        single ``.py`` file, which are imported by their own.
    connections
        A network, a part of one, or a single connection; the own node of a network is skipped.
    timeout
        Limit for the whole call, in seconds, in which the engines have to end what they are doing.
    max_files, max_bytes
        The most that is taken from `path`.

    Returns
    -------
    list of str
        The names of files that are new, changed or gone at any of the engines; none if all had everything.

    Raises
    ------
    ConfigurationError
        `path` is nothing that can be imported, or too large. Nothing was sent.
    OSError
        A file here cannot be read. Nothing was sent.
    RemoteError, ConnectionLostError, ExceptionGroup
        As of a command: an engine could not write the files, or is gone. The others have the code. One that has raised
        an error is as it was before.
    TimeoutError, KeyboardInterrupt
        Each engine has either what it had before, or all of the new.

    Notes
    -----
    Errors in the code itself come when it is imported.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from pconnect import local_network
    >>> from pconnect.files.code_sync import sync_code
    >>> with local_network(1) as net, tempfile.TemporaryDirectory() as folder:
    ...     module = pathlib.Path(folder, "waves.py")
    ...     for height in (3, 4, 4):
    ...         _ = module.write_text(f"height = {height}")
    ...         sent = sync_code(module, net)
    ...         print(sent, net[1].eval("import waves; waves.height").result())
    ['waves.py'] 3
    ['waves.py'] 4
    [] 4
    """
    deadline = deadline_after(timeout)
    tree = read_tree(path, max_files=max_files, max_bytes=max_bytes)
    _, targets = resolve(connections)
    if not targets:
        return []
    commands = list(call_service(_APPLY, [tree.key, tree.files, None], targets))
    try:
        Commands(_APPLY, commands).exception(remaining(deadline))
        commands = _send_missing(tree, targets, commands)
        values = Commands(_APPLY, commands).result(remaining(deadline))
    except TimeoutError:
        for command in commands:
            command.cancel()
        raise
    return sorted({name for _, changed in values or () for name in changed})


def _send_missing(tree: CodeTree, targets: list[Connection], asked: list[Command]) -> list[Command]:
    """Send each engine what it lacks, and return its last command: all that lack the same get it encoded once."""
    last = {command.node: command for command in asked}
    by_lack: defaultdict[tuple[bytes, ...], list[Connection]] = defaultdict(list)
    for target in targets:
        command = last[target.node]
        if command.exception() is None and (missing := command.result()[0]):
            by_lack[tuple(missing)].append(target)
    for lack, lacking in by_lack.items():
        contents = [tree.contents[digest] for digest in lack]
        last |= {
            command.node: command
            for command in call_service(_APPLY, [tree.key, tree.files, contents], lacking)
        }
    return list(last.values())
