"""Small programs whose streams and exit status must be the same wherever they run."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import DEADLINE

BINARY = bytes(range(256)) * 50
# Each one: a name, its command line, and its input.
Row = tuple[str, list[str | bytes], bytes]
STATUSES: list[Row] = [
    (f"exit {status}", ["sh", "-c", f"exit {status}"], b"")
    for status in (0, 1, 2, 77, 125, 126, 127, 128, 255)
]
DEATHS: list[Row] = [
    (f"killed by {number}", ["sh", "-c", f"kill -{number} $$"], b"")
    for number in (1, 2, 3, 6, 9, 10, 12, 13, 15)
]
PROGRAMS: list[Row] = [
    *STATUSES,
    *DEATHS,
    ("true", ["true"], b""),
    ("false", ["false"], b"not read"),
    ("echo", ["echo", "a", "b  c", ""], b""),
    ("no newline at the end", ["printf", "no end"], b""),
    ("an empty line", ["printf", "\\n"], b""),
    ("NUL bytes", ["printf", "a\\0b\\0"], b""),
    ("quotes", ["printf", "%s|", "'", '"', "$HOME", "`id`", "*", "|", "&&", ";", ">"], b""),
    ("any bytes", ["printf", "%s", bytes(range(1, 256))], b""),
    ("an option", ["ls", "--no-such-option"], b""),
    ("cat", ["cat"], BINARY),
    ("cat of nothing", ["cat"], b""),
    ("wc", ["wc", "-c"], BINARY),
    ("sort", ["sort"], b"b\na\nc"),
    ("tr", ["tr", "a-z", "A-Z"], b"some text"),
    ("od", ["od", "-c"], BINARY),
    ("head", ["head", "-n", "1"], b"first\nsecond\n" * 10),
    ("head of much", ["head", "-c", "5"], b"x" * 3_000_000),
    ("tail", ["tail", "-n", "1"], b"first\nsecond\n"),
    ("grep that finds", ["grep", "b"], b"a\nb\n"),
    ("grep that finds nothing", ["grep", "x"], b"a\nb\n"),
    ("sed", ["sed", "s/a/b/g"], b"banana"),
    ("tee", ["tee", "/dev/stderr"], b"both"),
    ("sha256sum", ["sha256sum"], b"x" * 5_000_000),
    ("seq", ["seq", "1", "20000"], b""),
    ("both streams", ["sh", "-c", "echo out; echo err >&2"], b""),
    ("only errors", ["sh", "-c", "echo err >&2; exit 4"], b""),
    ("errors in bulk", ["sh", "-c", "seq 1 20000 >&2"], b""),
    ("bulk on both", ["sh", "-c", "seq 1 20000 >&2 & seq 1 20000; wait"], b""),
    ("much from a pipe", ["sh", "-c", "head -c 9000000 /dev/zero | tr '\\0' x"], b""),
    ("closes its output", ["sh", "-c", "exec >&-; echo err >&2; exit 5"], b""),
    ("closes its errors", ["sh", "-c", "exec 2>&-; echo out"], b""),
    ("closes both", ["sh", "-c", "exec >&- 2>&-; exit 6"], b""),
    ("closes its input", ["sh", "-c", "exec <&-; echo out"], b"x" * 1_000_000),
    ("does not read", ["sh", "-c", "echo out"], b"x" * 1_000_000),
    ("reads late", ["sh", "-c", "sleep 0.05; wc -c"], b"x" * 1_000_000),
    ("writes late", ["sh", "-c", "echo a; sleep 0.05; echo b"], b""),
    ("a child writes on", ["sh", "-c", "(sleep 0.1; echo late) & echo first"], b""),
    ("a child in a session", ["sh", "-c", "setsid sh -c 'sleep 0.1; echo late' & wait"], b""),
    ("no standard input in children", ["sh", "-c", "cat | cat | wc -c"], b"x" * 100_000),
    ("its arguments", ["sh", "-c", 'printf "%s-" "$@"', "name", "a", "", "b c", "\n"], b""),
    ("arguments of two megabytes", ["sh", "-c", 'printf "%s" "$@" | wc -c', "x", *["y" * 100_000] * 19], b""),
    ("10,000 arguments", ["sh", "-c", "echo $#", "x", *["a"] * 10_000], b""),
    ("its folder", ["pwd"], b""),
    ("PWD", ["sh", "-c", "echo $PWD"], b""),
    ("a variable", ["sh", "-c", "echo $GIVEN; echo $OTHER"], b""),
    ("its group", ["sh", "-c", "test $(ps -o pgid= -p $$) = $$ && echo leads"], b""),
    ("no terminal", ["sh", "-c", "tty; test -t 1; echo $?"], b"x"),
    ("python", [sys.executable, "-c", "import sys; print(sys.stdin.read()); sys.exit('why')"], b"text"),
    ("a traceback", [sys.executable, "-I", "-c", "1 / 0"], b""),
    ("SIGPIPE is as usual", ["sh", "-c", "yes | head -n 1; yes | head -n 1"], b""),
    ("umask", ["sh", "-c", "umask"], b""),
]  # fmt: skip
GIVEN = {"GIVEN": "x y", "OTHER": "ä"}


def here(words: list[str | bytes], data: bytes, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run one on this machine."""
    return subprocess.run(
        words,
        input=data,
        capture_output=True,
        cwd=folder,
        env=os.environ | GIVEN | {"PWD": str(folder)},
        check=False,
        process_group=0,
        timeout=DEADLINE,
    )


def quick() -> list[Row]:
    """Return the programs that can be run hundreds of times."""
    return [row for row in PROGRAMS if len(row[2]) < 10**6 and "sleep" not in str(row[1])]
