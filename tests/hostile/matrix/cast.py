"""The roles of the processes of a real server."""

import psutil

from tests.hostile.matrix.house import House
from tests.support.waiting import wait_until

#: In the order in which they start each other.
KINDS = ("daemon", "starter", "spawner", "session", "engine", "worker", "client")


def find_cast(house: House, client: int, network: str, engine: int) -> dict[str, int]:
    """Return the process numbers of each kind for a client's network with an engine and a worker."""
    session = find_session(house, network)
    [spawner] = house.children(session)
    # The youngest: processes of an earlier engine may still be ending.
    wait_until(lambda: house.children(spawner)[-1:] not in ([], [engine]), "a worker")
    worker = house.children(spawner)[-1]
    assert house.process is not None
    return {
        "daemon": house.process.pid,
        "starter": psutil.Process(session).ppid(),
        "spawner": spawner,
        "session": session,
        "engine": engine,
        "worker": worker,
        "client": client,
    }


def find_session(house: House, network: str) -> int:
    """Return the process of a client's session here, from the status."""

    def pids() -> list[int]:
        return [session["pid"] for session in house.sessions() if session["network"] == network]

    wait_until(lambda: len(pids()) == 1, "the session in the status")
    return pids()[0]
