"""`serial`: a network that runs everything immediately in this process, so that a debugger can step into it."""

import secrets
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from pconnect.commands.command import Command
from pconnect.errors import ConfigurationError
from pconnect.jobs.job import Job
from pconnect.one_process.node import Home, Workspace
from pconnect.one_process.view import Refused, SerialNode, SerialView, check_is_client
from pconnect.programs.run_here import HOST

_MOST_NODES = 10_000  # the same limit as for one host


def serial(n: int = 1) -> "SerialNetwork":
    """Return a network that runs everything in this process, one call after another.

    It has the methods of the network that `pconnect` returns. Functions are called directly, without being sent. Errors
    are the original exceptions with their tracebacks, so ``%debug`` and `pdb` show where they were raised, and
    ``breakpoint()`` works in jobs and commands. Jobs and commands have ended when the call that starts them returns.
    With a seed, random numbers are the same as in a network of servers.

    Methods that need other processes raise `ConfigurationError` and name an alternative: values sent between nodes,
    files, memory limits. Time limits and retries have no effect. Arguments and results are not copied.

    Parameters
    ----------
    n
        Number of nodes; each has its own workspace.

    Examples
    --------
    >>> import pconnect
    >>> with pconnect.serial(2) as net:
    ...     net["a"] = 3
    ...     net.eval("a * sockets.node").result(), list(net.map(pow, [2, 3], [5, 2]))
    ([3, 6], [32, 9])
    """
    if not hasattr(n, "__index__") or isinstance(n, bool) or not 1 <= n <= _MOST_NODES:
        raise ConfigurationError(
            f"serial({n!r}) is not possible: give a whole number of nodes from 1 to {_MOST_NODES}"
        )
    home = Home(int.from_bytes(secrets.token_bytes(16), "big"), int(n))
    for workspace in home.nodes:
        workspace.given["sockets"] = SerialNetwork(home, own=workspace.number)
        workspace.clear()
    return SerialNetwork(home)


class SerialNetwork(SerialView, Sequence[SerialNode]):
    """The network that `serial` returns, or a part of it."""

    add = Refused("the number of nodes is fixed: give it to serial()")
    remove = Refused("the number of nodes is fixed: give it to serial()")
    reconnect = Refused("no node can be lost")
    dask = Refused("use Dask's own scheduler for this: dask.config.set(scheduler='synchronous')")
    dashboard = Refused("there are no servers to show")
    members = Refused("there are no servers that could know others")
    detach = Refused("jobs end before submit() returns")
    mesh = Refused("there are no connections", is_call=False)
    jobs: Mapping[int, Job] = {}  #: jobs of a detached network; always empty
    missing: Mapping[str, Exception] = {}  #: hosts that could not be reached; always empty
    resumed = False  #: whether the network continues that of an earlier client
    commands: Sequence[Command] = ()  #: commands of an earlier client; always empty
    values_lost: Mapping[int, int] = {}  #: values that an earlier client had not received; always empty

    def __init__(self, home: Home, nodes: Sequence[int] | None = None, own: int = 0) -> None:
        self._home = home
        self.node = own
        self.nodes = list(range(len(home.nodes)) if nodes is None else nodes)

    @property
    def network_id(self) -> str:
        """The network's identifier, 32 hexadecimal digits."""
        return f"{self._home.network_id:032x}"

    @property
    def closed(self) -> bool:
        """Whether the network was closed."""
        return self._home.closed

    def _workspaces(self) -> list[Workspace]:
        check_is_client(self.node)
        return [self._home.nodes[number] for number in self.nodes if number != self.node]

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, index: Any) -> Any:
        """Return a node, or a part of the network."""
        if isinstance(index, slice):
            return SerialNetwork(self._home, self.nodes[index], self.node)
        if isinstance(index, str):
            if index != HOST:
                raise KeyError(f"no node is on host {index!r}; for the value of a name, use pull({index!r})")
            return SerialNetwork(self._home, [number for number in self.nodes if number], self.node)
        if isinstance(index, Iterable):
            chosen = np.arange(len(self.nodes))[np.asarray(list(index))]
            return SerialNetwork(self._home, [self.nodes[k] for k in chosen], self.node)
        try:
            return SerialNode(self._home, self.nodes[index], self.node)
        except IndexError:
            raise IndexError(f"there is no node {index} in a network of {len(self)}") from None

    def close(self, timeout: float = 10.0) -> list[int]:
        """Close the network, and warn about errors that were never retrieved."""
        self._close()
        return []

    def _close(self) -> None:
        self._home.closed = True
        failed, self._home.failed = self._home.failed, []
        for command in failed:
            if not command.seen.error:
                warnings.warn(
                    f"this error was never retrieved: {command.known_error!r} of {command!r}",
                    RuntimeWarning,
                    stacklevel=3,
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<network {self.network_id[:8]} of pconnect.serial, {state}, {len(self)} nodes>"
