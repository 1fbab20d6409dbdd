"""The state that a process keeps from its parent, in processes whose parents left it in a bad state."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support.waiting import DEADLINE

_CODE = """
import json, os, signal, sys
from pserver.system.clean_start import start_cleanly
start_cleanly(keep=[int(sys.argv[1])])
child = os.fork() or os._exit(3)
exit_code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps({
    "exit_code": exit_code,
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "ignored": sorted(n for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN),
    "umask": os.umask(0),
    "open": sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + n)),
    "text": "ä€",
}, ensure_ascii=False))
"""
_PREPARE = """
import os, signal, sys
for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM})
os.umask(0)
for _ in range(3):
    os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
for number in map(int, sys.argv[2:]):
    os.close(number)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], "4"])
"""


def run(environment: dict[str, str], *closed: int) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", _PREPARE, _CODE, *map(str, closed)],
        env=os.environ | environment,
        capture_output=True,
        check=True,
        timeout=DEADLINE,
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    "environment", [{}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LC_ALL": "", "LC_CTYPE": "", "LANG": ""}]
)
def test_nothing_is_taken_over(environment: dict[str, str]) -> None:
    answer = run(environment)
    assert answer["exit_code"] == 3
    assert answer["blocked"] == []
    ignored = answer["ignored"]
    assert isinstance(ignored, list)
    assert set(ignored) - {signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ} == set()
    assert answer["umask"] == 0o022
    assert answer["open"] == [0, 1, 2, 4]
    assert answer["text"] == "ä€"


def test_standard_descriptors_that_are_missing_are_there() -> None:
    assert run({}, 0, 2)["open"] == [0, 1, 2, 4]
