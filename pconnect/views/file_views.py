"""`put` and `get`: the file methods of networks and single nodes."""

import os
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Generic, TypeVar

from pconnect.errors import ConfigurationError
from pconnect.files.transfer import get, put, targets
from pconnect.link.connection import Connection
from pconnect.loop.network import Network

# The result: a path for a node, a list for a network or a part of it.
RemotePaths = TypeVar("RemotePaths", bound=str | list[str])
LocalPaths = TypeVar("LocalPaths", bound=Path | list[Path])


class FileView(Generic[RemotePaths, LocalPaths]):
    """The methods for files of a network and a single node."""

    def put(
        self,
        local: str | os.PathLike[str],
        remote: str | os.PathLike[str] | None = None,
        *,
        timeout: float | None = None,
    ) -> RemotePaths:
        """Send a file, or a folder with everything below it, to each engine.

        If a file already exists with the same contents, only its permissions and times are sent; an interrupted
        transfer resumes. A file changes only as a whole: it is never half written. Files in the remote folder that the
        local one does not have stay.

        Parameters
        ----------
        local
            The file or folder. Links are followed.
        remote
            Its name on the nodes; `None`: the same name. A relative path is below the session's folder of files, which
            is removed at the end of the session; an absolute one (also ``~/name``) is used as it is. A path that ends
            with ``/`` is the folder that receives it. Missing folders are created.
        timeout
            Limit for the whole call, in seconds. The engines finish their commands first, within the limit.

        Returns
        -------
        list of str, or str
            The absolute path on each node. In engines, ``session_files`` is the folder of relative paths.

        Raises
        ------
        ConfigurationError
            An entry of a folder cannot be sent, or a file is larger than the server's limit. Nothing was sent.
        OSError
            A local file cannot be read, or changed during the transfer: it was not written; other files may have been.
        RemoteError, ConnectionLostError, ExceptionGroup
            One or several nodes cannot write it; the text names the nodes and the reasons. The other nodes have it. If
            the remote error was an `OSError` of some kind, so is this one.
        TimeoutError, KeyboardInterrupt
            The nodes keep the part that has arrived: the next `put` of the same contents continues from there.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from pconnect import local_network
        >>> with local_network(2) as net, tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "depths.txt").write_text("4000")
        ...     paths = net.put(f"{folder}/depths.txt", "ocean/")
        ...     net.eval("open(session_files / 'ocean' / 'depths.txt').read()").result(), len(paths)
        (['4000', '4000'], 2)
        """
        nodes, path = targets(self._connections()), _local(local)
        name = _remote(path.name if remote is None else remote, path.name)
        paths: RemotePaths = self._one_or_all(put(path, name, nodes, timeout=timeout))
        return paths

    def get(
        self,
        remote: str | os.PathLike[str],
        local: str | os.PathLike[str] | None = None,
        *,
        timeout: float | None = None,
    ) -> LocalPaths:
        """Fetch a file, or a folder with everything below it, from each engine.

        Files that are the same here are not sent again, and an interrupted transfer resumes, as with `put`.

        Parameters
        ----------
        remote
            The file or folder on the nodes; a relative path is below the session's folder of files.
        local
            From a single node: its local name; `None`: the same name. A path that ends with ``/`` is the folder that
            receives it. From a network or a part of one: the folder that gets a subfolder for each node, ``node_1``,
            ``node_2``, ..., with the file or folder under its remote name; `None`: the current folder.
        timeout
            See `put`.

        Returns
        -------
        list of Path, or Path
            The local path.

        Raises
        ------
        ConfigurationError
            A path cannot be used.
        OSError, UnreadableValueError
            It cannot be written here, or a node sent data that was not requested. Data from the other nodes is
            complete.
        RemoteError, ConnectionLostError, ExceptionGroup
            One or several nodes cannot read it, or a file is larger than the server's limit. Data from the other nodes
            is complete.
        TimeoutError, KeyboardInterrupt
            The client keeps the part that has arrived: the next `get` of the same contents continues from there.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from pconnect import local_network
        >>> with local_network(2) as net, tempfile.TemporaryDirectory() as folder:
        ...     net.eval("(session_files / 'x.txt').write_text(str(sockets.node))").result()
        ...     [path.relative_to(folder).as_posix() for path in net.get("x.txt", folder)]
        [1, 1]
        ['node_1/x.txt', 'node_2/x.txt']
        """
        nodes, name = targets(self._connections()), _remote(remote, "")
        own_name = PurePosixPath(name).name
        if own_name == "..":  # as a local name, it would lead out of the folder of the node
            own_name = ""
        if not own_name and (local is None or not isinstance(self, Connection)):
            raise ConfigurationError(f"get({name!r}): name the local file, and call it on a single node")
        if isinstance(self, Connection):
            places = [_local(own_name if local is None else _below_folder(local, own_name))]
        else:
            folder = _local("." if local is None else local)
            places = [folder / f"node_{node.node}" / own_name for node in nodes]
        get(name, places, nodes, timeout=timeout)
        paths: LocalPaths = self._one_or_all(places)
        return paths

    def _connections(self) -> Network | Connection:
        assert isinstance(self, Network | Connection)  # noqa: S101 - it is mixed into these alone
        return self

    def _one_or_all(self, paths: list[Any]) -> Any:
        return paths[0] if isinstance(self, Connection) else paths


def _local(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError(f"{path!r} is not the name of a file")
    if text == "~" or text.startswith("~/"):
        text = os.path.expanduser(text)  # noqa: PTH111 - ~name of other users stays as it is
    return Path(os.path.abspath(text))  # noqa: PTH100 - keep the name of a link, not of its target


def _remote(path: str | os.PathLike[str], name: str) -> str:
    """Return a path for an engine, with ``/`` between its parts; a path that ends with ``/`` names a folder."""
    text = path.as_posix() if isinstance(path, PurePath) else os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError(f"{path!r} is not the name of a file")
    return _below_folder(text, name)


def _below_folder(path: str | os.PathLike[str], name: str) -> str:
    text = os.fspath(path)
    return text + name if text.endswith(("/", os.sep)) else text
