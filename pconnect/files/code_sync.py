"""The client's own modules on the engines: what has changed since the last time, and nothing else, is sent."""

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
    """Let engines import a package or modules of the client, as they are now.

    Only files that an engine lacks are sent, in the way of `put`: compared by BLAKE2b, in batches, and an interrupted
    call is resumed by the next. If anything has changed, the modules that an engine had imported from there are
    forgotten, so that the next ``import`` gives the new ones; what was made of the old stays what it is: objects keep
    their class, and names in the workspace their modules, until they are imported again. Each state gets a folder of
    its own in the engine's session, which is removed with the session; it is there whole or not at all. What is left
    out stands in doc/reference/code.md.

    Parameters
    ----------
    path
        A package (a folder with ``__init__.py``), which is imported by the folder's name; or a folder of modules, or a
        single ``.py`` file, which are imported by their own.
    connections
        A network, a part of one, or a single connection; this node, if it is contained, is skipped.
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
        `path` cannot be imported, or is too large. Nothing was sent.
    OSError
        A file here cannot be read, and nothing was sent; or it was changed meanwhile, and each engine is as it was.
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
    """Send each engine what it lacks, and have it import that; `changed` gets the names of what was different."""
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
