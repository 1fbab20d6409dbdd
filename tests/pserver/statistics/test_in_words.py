from typing import Any

from pserver.statistics.in_words import age, in_lines, size
from pserver.statistics.work import Work


def document(**changed: Any) -> dict[str, Any]:
    """Return the statistics of a server with one slot."""
    slot = {
        "slot": 0, "state": "busy", "user": "alice", "session": 11, "since": 1000.0,
        **Work(3, 2, 1, 6, 5, 4, 8.0, 0.16, 0.32, 3000, 10).shown(),
    }  # fmt: skip
    session = {
        "session": 11, "user": "alice", "from": "192.0.2.1 port 5", "nodes": [1], "network": "0123abcd",
        "since": 1000.0, "slots": 1, "detached": False, "orphaned": None, "bytes_in": 2000,
        "bytes_out": 10,
        "memory": 5_000_000,
    }  # fmt: skip
    return {
        "server": {
            "name": "one", "host": "h", "version": "1", "pid": 5, "started": 0.0, "account": "a", "cmd_port": 1,
            "data_port": 2, "admission": {"words": "open until 06:00"},
        },
        "time": 1100.0,
        "machine": {
            "processors": 2, "load": [1.5, 1.0, 0.5], "memory_total": 2_000_000_000, "memory_free": 1_500_000_000,
            "swap_total": 0, "swap_free": 0, "disk_total": None, "disk_free": None,
        },
        "totals": {
            **Work(3, 2, 1, 6, 5, 4, 0.5, 0.0, 0.25)._asdict(), "bytes_in": 1234, "bytes_out": 99, "sessions": 7,
            "logins_failed": 2,
        },
        "slots": [slot],
        "queue": {"waiting": 4},
        "sessions": [session],
        "others": {"sessions": 1, "slots": 0},
        "members": [],
    } | changed  # fmt: skip


def test_all_that_counts_is_there() -> None:
    text = "\n".join(in_lines(document()))
    for part in (
        "Server one (pid 5, version 1) at h", "open until 06:00", "Load 1.5 on 2 processors",
        "memory 1.5 GB free of 2 GB; disk unknown", "Jobs: 3 done, 2 failed, 1 lost.",
        "Programs: 6 done, 5 failed, 4 lost.", "1.23 kB in, 99 B out", "7 so far, 1 shown here, 1 of other users",
        "failed logins: 2; slots awaited: 4", "busy   alice", "192.0.2.1 port 5",
        "3/2/1", "6/5/4", "0.5 s", "0.01 s", "0.02 s", "3 kB", "0123abcd",
    ):  # fmt: skip
        assert part in text, text


def test_a_server_without_sessions_has_no_table_of_them() -> None:
    text = "\n".join(in_lines(document(sessions=[], others={"sessions": 0, "slots": 0})))
    assert "0 shown here; failed" in text and "MEMORY" not in text


def test_sizes_and_ages_are_short() -> None:
    assert [size(count) for count in (0, 999_600, 10**18)] == ["0 B", "1 MB", "1e+03 PB"]
    assert age(93784.9) == "1 day, 2:03:04" and age(-1) == "0:00:00"
