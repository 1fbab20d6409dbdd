"""The judgement of each fact."""

import pytest

from pserver.doctor.checks import (
    Finding,
    Level,
    check_clock,
    check_descriptors,
    check_host_versions,
    check_memory,
    check_package,
    check_port,
    check_processes,
    check_space,
    check_tls,
)

MIB = 2**20
HERE = ["3.12.1", "0.1.0"]


@pytest.mark.parametrize(
    ("finding", "level", "text", "remedy"),
    [
        (check_package("numpy", "2.1"), Level.OK, "numpy 2.1", ""),
        (check_package("numpy", None), Level.WRONG, "numpy is not installed", "pip install numpy"),
        (check_tls("OpenSSL 3.0", has_tls13=True), Level.OK, "OpenSSL 3.0", ""),
        (check_tls("LibreSSL 2.8", has_tls13=False), Level.WRONG, "LibreSSL 2.8 does not support TLS 1.3", "1.1.1"),
        (check_port("data port", 1, None, None), Level.OK, "data port 1: free", ""),
        (check_port("data port", 1, None, "default"), Level.OK, "in use by the server 'default'", ""),
        (check_port("data port", 1, "nginx (pid 7)", None), Level.WRONG, "used by nginx (pid 7)", "--data-port"),
        (check_space("disk", 5 * MIB, 5 * MIB, "make room"), Level.OK, "disk: 5 MiB free", ""),
        (check_space("disk", 5 * MIB - 1, 5 * MIB, "make room"), Level.WRONG, "but 5 MiB needed", "make room"),
        (check_space("disk", None, 5, "make room"), Level.WRONG, "disk: cannot be written", "make room"),
        (check_memory(2**33), Level.OK, "memory: 8.0 GiB free", ""),
        (check_memory(100 * MIB), Level.WRONG, "memory: 100 MiB free, but 256 MiB needed", "more memory"),
        (check_descriptors(None), Level.OK, "unlimited", ""),
        (check_descriptors(1024), Level.OK, "1024", ""),
        (check_descriptors(1023), Level.NOTE, "about twenty", "ulimit -Hn"),
        (check_descriptors(64), Level.NOTE, "about twenty", "ulimit -Hn"),
        (check_descriptors(63), Level.WRONG, "a server needs at least 64", "ulimit -Hn"),
        (check_processes(None), Level.OK, "unlimited", ""),
        (check_processes(256), Level.OK, "256", ""),
        (check_processes(255), Level.NOTE, "each engine", "ulimit -Hu"),
        (check_clock("alpha", 0.1), Level.OK, "alpha: its clock is 0.1 s ahead of this", ""),
        (check_clock("alpha", -1.9), Level.OK, "1.9 s behind this machine's", ""),
        (check_clock("alpha", -3.0), Level.NOTE, "3.0 s behind", "time service"),
        (check_clock("alpha", 50000.0), Level.WRONG, "certificates become invalid at 24 h", "time service"),
        (check_host_versions("alpha", HERE, HERE), Level.OK, "Python 3.12.1 and pserver 0.1.0, the same as here", ""),
        (check_host_versions("alpha", HERE, ["3.12.9", "0.1.0"]), Level.OK, "this machine has 3.12.1", ""),
        (check_host_versions("alpha", HERE, ["3.11.1", "0.1.0"]), Level.NOTE, "3.11.1", "--python"),
        (check_host_versions("alpha:4000", HERE, ["3.11.1", "0.0.9"]), Level.WRONG, "0.0.9", "pserver deploy alpha"),
    ],
)  # fmt: skip
def test_what_a_fact_means(finding: Finding, level: Level, text: str, remedy: str) -> None:
    assert finding.level is level
    assert text in finding.text
    assert remedy in finding.remedy
    assert ":4000" not in finding.remedy
    assert bool(finding.remedy) == bool(remedy)


def test_how_a_finding_is_shown() -> None:
    assert str(Finding(Level.OK, "fine")) == "ok    fine"
    assert str(Finding(Level.WRONG, "bad", "do this")) == "WRONG bad\n      -> do this"
