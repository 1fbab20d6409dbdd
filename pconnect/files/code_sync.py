"""Send the client's own modules to the engines. Only changed files are sent."""

import contextlib
import os

from pconnect.files.code_listing import DEFAULT_MAX_BYTES, DEFAULT_MAX_FILES, list_code
from pconnect.files.transfer import Steps, Transfer, send, targets
from pconnect.files.transfer_ends import BATCH_BYTES, Outgoing
from pconnect.messaging.send_receive import Connections
from srp_tools.steps import deadline_after


def sync_code(
    path: str | os.PathLike[str],
    connections: Connections,
    *,
    timeout: float = 60.0,
    max_files: int = DEFAULT_MAX_FILES,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> list[str]:
    """Make the current version of a package or of modules of the client importable on the engines.

    Like `put`, this sends only the files that an engine lacks (compared by BLAKE2b) in batches, and resumes an
    interrupted call. If anything has changed, each engine forgets the modules that it has imported from there, so that
    the next ``import`` loads the new ones. Existing objects keep their classes, and names in the workspace keep the old
    modules until they are imported again. Each version gets its own folder in the engine's session, which is removed
    with the session. A version becomes visible as a whole or not at all. doc/reference/code.md lists the files that are
    not sent.

    Parameters
    ----------
    path
        A package (a folder with ``__init__.py``), imported under the name of the folder; or a folder of modules or a
        single ``.py`` file, imported under the names of the modules.
    connections
        A network, a part of one, or a single connection. This node is skipped.
    timeout
        The time limit for the whole call, in seconds. It includes the time until the engines finish their current
        commands.
    max_files, max_bytes
        The maximum number of files and bytes in `path`.

    Returns
    -------
    list of str
        The names of files that are new, changed or removed on any of the engines; empty if all were up to date.

    Raises
    ------
    ConfigurationError
        `path` cannot be imported, or is too large. Nothing was sent.
    OSError
        A file here cannot be read, and nothing was sent; or a file changed meanwhile, and all engines are unchanged.
    RemoteError, ConnectionLostError, ExceptionGroup
        As for commands: an engine could not write the files, or is gone. An engine that raised an error is unchanged.
        The other engines have the new code.
    TimeoutError, KeyboardInterrupt
        Each engine has either the old or the complete new code.

    Notes
    -----
    Errors in the code itself appear when it is imported.

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
    key, root, listing = list_code(path, max_files=max_files, max_bytes=max_bytes)
    nodes = targets(connections)
    if not nodes:
        return []
    transfer = Transfer(nodes, f"sync_code({str(path)!r})", "sending code")
    changed: set[str] = set()
    with contextlib.closing(Outgoing(root, listing)) as outgoing:
        transfer.run([_sync(transfer, key, outgoing, changed)], deadline)
    return sorted(changed)


def _sync(transfer: Transfer, key: str, outgoing: Outgoing, changed: set[str]) -> Steps:
    """Send each engine the files that it lacks, and activate them. Adds the names of changed files to `changed`."""
    begun = transfer.call("code.begin", [key, outgoing.listing.pack()], transfer.nodes)
    yield begun
    offers = {command.node: command.result() for command in transfer.take(begun)}
    yield from send(transfer, outgoing, offers, BATCH_BYTES)
    nodes = transfer.alive(transfer.nodes)
    if nodes:
        applied = transfer.call("code.apply", [], nodes)
        yield applied
        for command in transfer.take(applied):
            changed.update(command.result())
