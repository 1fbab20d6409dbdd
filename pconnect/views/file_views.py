"""The verbs of a network, and of a single node of it, for files."""

import os
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Generic, TypeVar

from pconnect.errors import ConfigurationError
from pconnect.files.transfer import get, put, targets
from pconnect.link.connection import Connection
from pconnect.loop.network import Network

# What they give back: a path for a node, a list for a network or a part of it.
RemotePaths = TypeVar("RemotePaths", bound=str | list[str])
LocalPaths = TypeVar("LocalPaths", bound=Path | list[Path])


class FileView(Generic[RemotePaths, LocalPaths]):
    """What a network and a single node of it do with files."""

    def put(
        self,
        local: str | os.PathLike[str],
        remote: str | os.PathLike[str] | None = None,
        *,
        timeout: float | None = None,
    ) -> RemotePaths:
        """Send a file, or a folder with all that is below it, to each engine.

        Files that are there already with the same contents are not sent again, only their permissions and times; a
        interrupted transfer is resumed. A file is there whole or as it was before, never in part. Files
        of a folder there that this one does not have stay.

        Parameters
        ----------
        local
            The file or folder. Links count as what they lead to.
        remote
            What it is called there; `None`: as here. A relative path is below the session's folder of files, which is
            removed at the end of the session, an absolute one (also ``~/name``) is meant as it is. If it ends with
            ``/``, it is the folder to put it into. Missing folders are made.
        timeout
            Limit for the whole call, in seconds, in which the engines also have to end what they are doing.

        Returns
        -------
        list of str, or str
            The absolute path on each node; in engines, ``session_files`` is the folder where relative ones are.

        Raises
        ------
        ConfigurationError
            Something in a folder cannot be sent, or a file is larger than the server's limit. Nothing was sent.
        OSError
            A file here cannot be read, or was changed meanwhile: it is not there; others may be.
        RemoteError, ConnectionLostError, ExceptionGroup
            At one node, or at several, it cannot be written; the text names what and why. The others have it. If the
            error there was an `OSError` of some kind, so is this one.
        TimeoutError, KeyboardInterrupt
            What has arrived of a file is kept: the next `put` of the same contents continues behind it.

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
        """Fetch a file, or a folder with all that is below it, from each engine.

        What is the same here already is not sent again, and an interrupted transfer is resumed, as by `put`.

        Parameters
        ----------
        remote
            The file or folder there; a relative path is below the session's folder of files.
        local
            From a single node: what it is called here; `None`: as there. If it ends with ``/``, it is the folder to put
            it into. From a network or a part of one: the folder in which each node gets a folder ``node_1``,
            ``node_2``, ..., and what is fetched is called in there as at the node; `None`: the current one.
        timeout
            As of `put`.

        Returns
        -------
        list of Path, or Path
            Where it is here.

        Raises
        ------
        ConfigurationError
            A path cannot be used.
        OSError, UnreadableValueError
            It cannot be written here, or what a node has sent is not what was asked for. That of the others is here.
        RemoteError, ConnectionLostError, ExceptionGroup
            At one node, or at several, it cannot be read, or a file is larger than the server's limit. That of the
            others is here.
        TimeoutError, KeyboardInterrupt
            What has arrived of a file is kept: the next `get` of the same contents continues behind it.

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
        if not own_name and (local is None or not isinstance(self, Connection)):
            raise ConfigurationError(f"get({name!r}): say under which local name, and from one node")
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
        text = os.path.expanduser(text)  # noqa: PTH111 - the homes of others are not meant
    return Path(os.path.abspath(text))  # noqa: PTH100 - the name is that of a link, not of what it leads to


def _remote(path: str | os.PathLike[str], name: str) -> str:
    """Return a path in an engine, which has ``/`` between its parts; one that ends with it is that of a folder."""
    text = path.as_posix() if isinstance(path, PurePath) else os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError(f"{path!r} is not the name of a file")
    return _below_folder(text, name)


def _below_folder(path: str | os.PathLike[str], name: str) -> str:
    text = os.fspath(path)
    return text + name if text.endswith(("/", os.sep)) else text
