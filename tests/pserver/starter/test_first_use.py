"""Initialization in the starter: no results stay, and no two processes get the same secrets."""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from pserver.starter.first_use import use_libraries
from srp_tools.certificates import NodeKey
from tests.support.waiting import DEADLINE


def test_it_leaves_nothing_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    use_libraries()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def _send_key(end: Connection) -> None:
    end.send_bytes(NodeKey().public_bytes())


def test_processes_forked_after_it_make_keys_of_their_own() -> None:
    use_libraries()
    keys = set()
    for _ in range(3):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_send_key, args=(theirs,))
        process.start()
        assert ours.poll(DEADLINE)
        keys.add(ours.recv_bytes())
        process.join(DEADLINE)
        for end in (ours, theirs):
            end.close()
    assert len(keys) == 3
