"""
Out-of-core reduction with files
================================

Reduce files on the machines where they are, and fetch small results.

Engines read their files one day at a time through ``np.load(mmap_mode="r")``, so a file may be larger than the memory.
They write their results to files, too, which the client fetches: see :doc:`Files </reference/files>`.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from pconnect import local_network, reval

# %%
# The data
# --------
# Three years of temperatures, one for each minute, in a file for each year.

MINUTES = 24 * 60
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
random = np.random.default_rng(1)
for year in (2021, 2022, 2023):
    days = np.arange(365 * MINUTES) / MINUTES
    season, daytime = -10 * np.cos(2 * np.pi * days / 365), -4 * np.cos(2 * np.pi * days)
    weather = np.repeat(random.normal(0, 2.5, 365), MINUTES)
    np.save(folder / f"{year}.npy", 9.0 + season + daytime + weather + random.normal(0, 0.5, days.size))

# %%
# The program of each engine
# --------------------------
# ``session_files`` is the folder of the files that ``put`` sends. A memory map reads only the parts that you use.

PROGRAM = """
for path in sorted((session_files / "years").glob("*.npy")):
    data = np.load(path, mmap_mode="r").reshape(-1, minutes)
    table = np.array([(day.min(), day.mean(), day.max()) for day in data])
    results = session_files / "results"
    results.mkdir(exist_ok=True)
    np.save(results / path.name, table)
"""

# %%
# Send, reduce, fetch
# -------------------
# To use your own machines, write ``pconnect(["alpha", "beta"])`` in place of ``local_network(2)``. If
# your servers have the files already, leave out ``put``, and write their absolute path in the program. ``put`` skips
# files that have arrived before, and resumes interrupted transfers.

with local_network(2) as net:
    for number, path in enumerate(sorted(folder.glob("*.npy"))):
        net[1 + number % 2].put(path, "years/")
    net["minutes"] = MINUTES
    reval(PROGRAM, net).result()
    net.get("results", folder / "got")

files = sorted((folder / "got").rglob("*.npy"), key=lambda path: path.name)
print(*(f"{path.relative_to(folder)}: {path.stat().st_size / 1e3:.0f} kB" for path in files), sep="\n")

# %%
# Plain numpy finds the same values in the whole data.

reduced = np.vstack([np.load(path) for path in files])
whole = np.concatenate([np.load(path) for path in sorted(folder.glob("*.npy"))]).reshape(-1, MINUTES)
assert np.array_equal(reduced[:, [0, 2]], np.column_stack([whole.min(axis=1), whole.max(axis=1)]))
assert np.allclose(reduced[:, 1], whole.mean(axis=1))
temporary.cleanup()

fig, axes = plt.subplots(figsize=(8, 4), layout="constrained")
dates = np.datetime64("2021-01-01") + np.arange(len(reduced))
low, mean, high = reduced.T
axes.fill_between(dates, low, high, color="tab:blue", alpha=0.4, label="lowest to highest of the day")
axes.plot(dates, np.convolve(mean, np.ones(30) / 30, "same"), color="tab:red", label="mean of 30 days")
axes.set(xlabel="date", ylabel="temperature (°C)", title=f"{whole.size:,} values in three files")
axes.set_xlim(dates[15], dates[-15])
axes.legend(loc="lower center", ncols=2)
plt.show()
