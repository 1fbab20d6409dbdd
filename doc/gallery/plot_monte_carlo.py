"""
Monte Carlo with a seed
=======================

Simulate 4,500 random materials on all processors, and get the same numbers in every run.

Each point of a square lattice conducts with probability ``p``. Does the lattice conduct from top to bottom? In large
lattices the answer changes suddenly from no to yes, at ``p`` = 0.5927: *site percolation* has a phase transition.

Take random numbers from ``pconnect.rng()``. With ``seed=`` they depend on the number of the item alone, not on the
number of workers, nor on which of them computes it: see :doc:`Jobs </reference/jobs>`.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import label

import pconnect

# %%
# One sample
# ----------
# The share of conducting lattices estimates the probability. Each call makes 100 lattices of one size.


def conducting(size, p):
    """Return the share of 100 random lattices that conduct from top to bottom."""
    random, count = pconnect.rng(), 0
    for _ in range(100):
        clusters, _ = label(random.random((size, size)) < p)
        count += bool(set(clusters[0]) & set(clusters[-1]) - {0})
    return count / 100


# %%
# All samples
# -----------
# To use your own machines, write ``pconnect.pconnect(["alpha", "beta"])`` in place of ``pconnect.local_network(2)``.

sizes, ps = [8, 24, 72], np.linspace(0.45, 0.73, 15)
size_grid, p_grid = (grid.ravel().tolist() for grid in np.meshgrid(sizes, ps, indexing="ij"))

with pconnect.local_network(2) as net:
    found = np.array(list(net.map(conducting, size_grid, p_grid, seed=2024)))
    again = np.array(list(net[1].map(conducting, size_grid, p_grid, seed=2024, chunksize=5)))

# %%
# Other workers compute the same results. Item k draws from child k of numpy's ``SeedSequence``, so plain numpy draws
# the same numbers: here for the smallest lattice and the seventh probability.

assert np.array_equal(found, again)
random = np.random.default_rng(np.random.SeedSequence(2024, spawn_key=(6,)))
samples = [label(random.random((8, 8)) < ps[6])[0] for _ in range(100)]
assert found[6] == np.mean([len(np.intersect1d(c[0][c[0] > 0], c[-1])) > 0 for c in samples])

fig, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
for size, row in zip(sizes, found.reshape(len(sizes), -1), strict=True):
    error = np.sqrt(row * (1 - row) / 100)
    axes.errorbar(ps, row, error, fmt="o-", capsize=3, label=f"{size} by {size} points")
axes.axvline(0.5927, color="gray", linestyle="--", label="infinite lattice: 0.5927")
axes.set(xlabel="probability p that a point conducts", ylabel="share of conducting lattices")
axes.set_title("Site percolation, 100 lattices for each symbol")
axes.legend(title="lattice")
plt.show()
