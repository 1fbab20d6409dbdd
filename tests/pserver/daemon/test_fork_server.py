"""The fork server: all that sessions need is there before the first of them."""

import subprocess
import sys
from pathlib import Path

from tests.support.waiting import DEADLINE

_CODE = """
import multiprocessing, sys
from pserver.daemon.fork_server import start_fork_server

def report(end):
    import gc
    modules = {"numpy", "tlslite", "cryptography", "pserver.session.supervisor", "pserver.engine.engine"}
    end.send((sorted(modules - set(sys.modules)), gc.get_freeze_count() > 0))

if __name__ == "__main__":
    start_fork_server()
    start_fork_server()
    print(sorted({"numpy", "tlslite"} & set(sys.modules)))
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("forkserver").Process(target=report, args=(theirs,))
    process.start()
    print(ours.recv())
    process.join()
"""


def test_its_children_have_everything_loaded_and_we_have_not(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_CODE)
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=True, timeout=DEADLINE
    )
    assert done.stdout == "[]\n([], True)\n"
