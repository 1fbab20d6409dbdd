"""Heads that no encoder of ours writes: malformed ones, and those that try to take memory."""

from typing import Any

import msgpack


def mark(code: int, *parts: object) -> list[object]:
    return [msgpack.ExtType(code, b""), *parts]


def head_of(tree: object, table: object = ()) -> bytes:
    options: dict[str, Any] = {"unicode_errors": "surrogatepass"}
    return msgpack.packb(table, **options) + msgpack.packb(tree, **options)


def with_branches(*trees: object, count: int | None = None) -> bytes:
    """Return a head with these trees, of which the last is the tree."""
    return head_of(trees[0], [len(trees) - 1 if count is None else count]) + b"".join(
        map(msgpack.packb, trees[1:])
    )


BRANCH = msgpack.ExtType(11, b"")
ARRAY = mark(32, 0, "<i4", [2], b"12345678")
HOSTILE: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("no tree", b"\x90"),
    ("no table", msgpack.packb(5)),
    ("table of another type", head_of(1, "table")),
    ("mark in the table", head_of(1, [msgpack.ExtType(1, b"")])),
    ("trailing bytes", head_of(1) + b"\0"),
    ("trailing bytes, long", head_of([0] * 1000) + b"\0"),
    ("cut off", head_of([0] * 1000)[:-1]),
    ("too deep", b"\x90" + b"\x91" * 5000 + b"\0"),
    ("too deep tuples", b"\x90" + b"\x92\xc7\0\1" * 3000 + b"\0"),
    ("length beyond the data", b"\x90\xdd\xff\xff\xff\xff"),
    ("reserved byte", b"\x90\xc1"),
    ("str not UTF-8", b"\x90\xa1\xff"),
    ("bad timestamp", b"\x90\xd7\xff" + b"\xff" * 8),
    ("unknown code", head_of(mark(127))),
    ("mark with data", head_of([msgpack.ExtType(1, b"x")])),
    ("mark alone", head_of(msgpack.ExtType(1, b""))),
    ("mark in the middle", head_of([1, msgpack.ExtType(1, b"")])),
    ("mark after mark", head_of(mark(1, msgpack.ExtType(1, b"")))),
    ("mark as a key", b"\x90\x81\xc7\0\1\0"),
    ("no such buffer", head_of(msgpack.ExtType(0, b""))),
    ("unused buffer", head_of(1, [[2, 0]])),
    ("buffer twice", head_of([msgpack.ExtType(0, b"")] * 2, [[2, 0]])),
    ("no such branch", head_of(BRANCH)),
    ("no such branch, long", head_of([BRANCH] * 1000)),
    ("branch that is not used", with_branches(1, 2)),
    ("branch twice", with_branches(1, [BRANCH, BRANCH])),
    ("branch of itself", with_branches([BRANCH], BRANCH)),
    ("branch after its use", with_branches([BRANCH], [1], BRANCH)),
    ("branch that is a mark", with_branches(msgpack.ExtType(1, b""), [BRANCH])),
    ("branch as a list for a key", with_branches([], {BRANCH: 1})),
    ("branch with data", with_branches(1, msgpack.ExtType(11, b"x"))),
    ("branches that are not there", with_branches(1, BRANCH, count=2)),
    ("branches without end", with_branches(1, BRANCH, count=2**62)),
    ("branches of a negative number", with_branches(1, BRANCH, count=-1)),
    ("branches no number", head_of(1, [True])),
    ("more branches than there are", with_branches(1, 2, BRANCH, count=1)),
    ("branches too deep in each other", with_branches(1, *[[BRANCH]] * 50)),
    ("tuples too deep in each other", with_branches(1, *[mark(1, BRANCH)] * 5000, mark(2, BRANCH))),
    ("list as a key", b"\x90\x81\x90\0"),
    ("array as a key", head_of(mark(4, ARRAY, 1))),
    ("unhashable in a set", head_of(mark(2, []))),
    ("unhashable in a frozenset", head_of(mark(3, mark(2)))),
    ("signalling Decimal in a set", head_of(mark(2, mark(22, "sNaN")))),
    ("key without value", head_of(mark(4, 1))),
    *(
        (f"buffer {entry}", head_of(msgpack.ExtType(0, b""), [entry]))
        for entry in (
            1,
            [],
            [2],
            [2, -1],
            [2, 1.0],
            [4, 0],
            [9, "<f8", [0]],
            [0, "<f8", [-1]],
            [0, "<f8", [1.0]],
            [0, "<f8", 0],
            [0, "O", [0]],
            [0, "<f8"],
            [0, "<f8", [0], 0],
            [0, ["<f8", [2]], [0]],
            ["0", "<f8", [0]],
            [2, 2**64 - 1],
        )
    ),
    *(
        (f"parts {parts}", head_of(mark(*parts)))
        for parts in (
            (5,),
            (5, "text"),
            (6,),
            (6, 1),
            (7, 1.0),
            (7, 1, 2),
            (7, "1", 2.0),
            (8, 1, 2),
            (9, 0, 1, 0),
            (9, 0.0, 1, 1),
            (9, 0, True, 1),
            (10, 1),
            (16, 0, 1, 1),
            (16, 2024, 13, 1),
            (16, 10**9, 1, 1),
            (16, 2024, 1),
            (16, 2024, 1, 1, 1),
            (17, 24, 0, 0, 0, None, 0),
            (17, 1, 0, 0, 0, "UTC", 0),
            (17, 1, 0, 0, 0, None, 2),
            (18, 1, 1, 1, 0, 0, 0, 0, 1, 0),
            (19, 10**10, 0, 0),
            (19, 2**63, 2**63, 2**63),
            (19, 1.5, 0, 0),
            (20,),
            (20, 1),
            (20, mark(19, 1, 0, 0)),
            (20, mark(19, 0, 1, 0), 1),
            (21,),
            (21, 1),
            (21, "../../etc/passwd"),
            (21, "/etc/passwd"),
            (21, "Europe"),
            (21, ""),
            (21, "a\0b"),
            (21, "x" * 5000),
            (22, "1,5"),
            (22, 1),
            (22, "1E99999999999999999999"),
            (22,),
            (23, 1, 0),
            (23, 1.0, 1),
            (24, b""),
            (24, 5),
            (32,),
            (32, 0, "<i4", [2], b"1"),
            (32, 0, "<i4", [2], [0] * 8),
            (32, "C", "<i4", [2], b"12345678"),
            (32, 0, "<f8", [2**62, 2**62, 0, 2**62], b""),
            (32, 0, "|V0", [2**63], b""),
            (32, 0, "|S0", [2**63], b""),
            (32, 0, "<f8", [0] * 100, b""),
            (32, 0, "<f8", [1] * 100, b"12345678"),
            (32, 0, "|O8", [1], bytes(8)),
            (32, 0, ["<f8", [1]], [1], bytes(8)),
            (33, "<f8", b""),
            (33, "<f8"),
            (33, "|O8", bytes(8)),
            (33, "<U1", b"\xff" * 4),
            (34,),
            (34, b""),
            (35, "a"),
            (37, 0),
            (40,),
            (40, "csr_array", [2, 2], 1, 2, 3),
            (41,),
            (41, "Table", b"x"),
            (42,),
            (42, "DataFrame", b"x", 1, 2, 3, 4),
            (64,),
            (64, 1, 2),
            (64, "name"),
            (38,),
            (38, None),
            (38, "O"),
            (36, 1, None, None, False),
            (36, ARRAY, None, None, 1),
            (36, ARRAY, ARRAY, None, False),
            (36, ARRAY, None, ARRAY, False),
            (36, ARRAY, mark(32, 0, "|b1", [3], b"123"), None, False),
            (36, ARRAY, None, 5, False),
            (36, ARRAY),
            (36, mark(32, 0, [[], 0, 0], [2**62], b""), None, None, False),
        )
    ),
]

# Not all of these are malformed.
MEMORY: list[tuple[str, bytes]] = [
    ("lists that claim many items", b"\x90" + b"\xdd\x00\x00\xff\x00" * 1000 + bytes(70000)),
    ("tables that claim many items", b"\xdd\x00\x00\xff\x00" * 1000 + bytes(70000)),
    ("short lists that claim", b"\x90" + b"\xdc\x00\xf0" * 85),
    ("V0 of any shape", head_of([mark(32, 0, "|V0", [2**62], b"")] * 100)),
    ("S0 of any shape", head_of([mark(32, 0, "|S0", [2**62], b"")] * 100)),
    ("empty arrays of wide items", head_of([mark(32, 0, "|S999999999", [0], b"")] * 100)),
    ("masked V0", head_of(mark(36, mark(32, 0, "|V0", [2**40], b""), None, None, False))),
    ("dtypes of wide items", head_of([mark(38, ["<f8", [2**20]])] * 100)),
    ("buffers of size 0", head_of([msgpack.ExtType(0, b"")] * 1000, [[3, 0]] * 1000)),
    ("branches", with_branches(*[1] * 100_000)),
    ("branches that are used", with_branches(*[1] * 1000, [BRANCH] * 999)),
    ("branches that claim many items", b"\x91\xcd\x03\xe8" + b"\xdd\x00\x00\xff\x00" * 1000 + bytes(70000)),
    ("Decimal", head_of([mark(22, "1E+999999999999999")] * 100)),
    ("range", head_of(mark(9, 0, mark(6, b"\x7f" * 1000), 1))),
]
