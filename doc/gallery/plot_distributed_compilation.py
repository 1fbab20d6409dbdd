"""
Distributed compilation
=======================

Build a C library with ``make`` and ``gcc`` as they are, and have servers compile its files.

``pshadow`` puts a stand-in for ``gcc`` before the ``PATH``. The stand-in has ``prun`` run each compile step on a
server; linking stays here. See :doc:`/howto/distributed-compiling`. This example needs ``gcc`` and ``make``.
"""

import contextlib
import ctypes
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.polynomial import legendre

# %%
# Two servers
# -----------
# ``prun`` is a program of its own, so it needs servers with a port and a login. These two run on this machine, with
# their files in a temporary home. If you have servers, leave this section out: ``prun`` uses those of your
# :doc:`configuration </reference/configuration>`.

START = "pserver start --name {} --bind 127.0.0.1 --cmd-port 0 --data-port 0 --allow-root --slots 2"


@contextlib.contextmanager
def two_servers(home):
    """Yield a function that runs shell scripts with two servers in their configuration."""
    (home / "run").mkdir(mode=0o700)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    environment = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), "PATH": path}

    def shell(script):
        return subprocess.check_output(["/bin/sh", "-ec", script], cwd=home, env=environment, text=True)

    shell("generate-srp-data --random")
    try:
        said = [shell(START.format(name)) for name in ("alpha", "beta")]
        ports = [re.search(r"command port (\d+)", text)[1] for text in said]
        environment["PCONNECT_HOSTS"] = " ".join(f"127.0.0.1:{port}" for port in ports)
        yield shell
    finally:
        shell("prun --agent stop || :; pserver stop --name alpha || :; pserver stop --name beta")


# %%
# A library to build
# ------------------
# One file for each of 16 Legendre polynomials. The makefile records when each step begins and ends.

SOURCE = """void p{n:02}(const double *x, double *y, long count) {{
    for (long i = 0; i < count; i++) y[i] = {horner};
}}
"""
MAKEFILE = """
liblegendre.so: $(patsubst %.c,%.o,$(wildcard *.c))
	gcc -shared -o $@ $^
%.o: %.c
	@date +%s.%N >$*.times
	gcc -O3 -fPIC -c $<
	@date +%s.%N >>$*.times
"""
BUILD = """
eval "$(pshadow on --export cc gcc)"
make -j"$(prun --slots)"
prun --report
"""

with tempfile.TemporaryDirectory() as folder, two_servers(Path(folder)) as shell:
    for n in range(16):
        coefficients = map(str, legendre.leg2poly([0] * n + [1]).tolist())
        horner = " + x[i] * (".join(coefficients) + ")" * n
        Path(folder, f"p{n:02}.c").write_text(SOURCE.format(n=n, horner=horner))
    Path(folder, "Makefile").write_text(MAKEFILE)
    print(*shell(BUILD).splitlines()[-3:], sep="\n")
    times = np.array([np.loadtxt(Path(folder, f"p{n:02}.times")) for n in range(16)])
    library = ctypes.CDLL(str(Path(folder, "liblegendre.so")))

# %%
# The report says where ``gcc`` ran. The first steps take longer, because ``prun`` logs in to the servers first. The
# library computes the values of plain numpy.

x = np.linspace(-1, 1, 501)
values = np.empty((16, x.size))
for n, row in enumerate(values):
    arrays = (ctypes.c_void_p(array.ctypes.data) for array in (x, row))
    library[f"p{n:02}"](*arrays, ctypes.c_long(x.size))
assert np.allclose(values, [legendre.legval(x, [0] * n + [1]) for n in range(16)], atol=1e-10)
assert np.all(times[:, 1] > times[:, 0])

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
begin, end = times.T - times.min()
left.barh(np.arange(16), end - begin, left=begin, color="tab:blue")
left.set(xlabel="time since the first step (s)", ylabel="file", title="Compile steps, four at a time")
left.set_yticks(np.arange(16), [f"p{n:02}.c" for n in range(16)], fontsize=8)
left.invert_yaxis()
for n in (2, 5, 9, 15):
    right.plot(x, values[n], label=f"p{n:02}")
right.set(xlabel="x", ylabel="Legendre polynomial", title="What the library computes", ylim=(-0.8, 1.05))
right.legend(loc="lower right", ncols=4)
plt.show()
