"""
Heat equation with halo exchange
================================

Cut a plate into slabs, one for each engine, and let neighbours exchange their edges in each step.

An explicit step of the heat equation needs the neighbours of each point. At the edge of a slab they belong to another
engine, so each slab has a *halo*: a copy of the neighbour's edge, renewed before each step. The engines send these rows
:doc:`directly to each other </tutorial>`, not through the client.
"""

import matplotlib.pyplot as plt
import numpy as np

from pconnect import local_network, reval

ENGINES, ROWS, COLUMNS, STEPS = 3, 120, 180, 600
RATE = 0.24  # dt * conductivity / dx**2; below 1/4 the step is stable

# %%
# A plate, with its left edge and a spot kept hot
# -----------------------------------------------

plate = np.zeros((ROWS, COLUMNS))
plate[:, 0] = 100.0
hot = np.zeros(plate.shape, dtype=bool)
hot[:, 0] = hot[30:50, 110:130] = True
plate[hot] = 100.0


def step(field, hot, rate):
    """Return the field after one step; the outermost points keep their values."""
    new = field.copy()
    inner = field[1:-1, 1:-1]
    around = field[:-2, 1:-1] + field[2:, 1:-1] + field[1:-1, :-2] + field[1:-1, 2:]
    new[1:-1, 1:-1] += rate * (around - 4 * inner)
    return np.where(hot, field, new)


# %%
# The program of each engine
# --------------------------
# Every engine first sends, then receives. This cannot block: while ``psend`` waits, it takes in arriving messages.

PROGRAM = """
above = sockets[sockets.node - 1] if sockets.node > 1 else None
below = sockets[sockets.node + 1] if sockets.node < len(sockets) - 1 else None
for _ in range(steps):
    if above: psend(slab[1], above)
    if below: psend(slab[-2], below)
    if above: slab[0] = precv(above)
    if below: slab[-1] = precv(below)
    slab = step(slab, hot, rate)
"""

# %%
# To use your own machines, write ``pconnect(["alpha", "beta", "gamma"])`` in place of ``local_network(ENGINES)``.

inner = np.array_split(np.arange(1, ROWS - 1), ENGINES)
with local_network(ENGINES) as net:
    net.push({"step": step, "rate": RATE, "steps": STEPS})
    for node, rows in zip(net[1:], inner, strict=True):
        with_halo = slice(rows[0] - 1, rows[-1] + 2)
        node.push({"slab": plate[with_halo], "hot": hot[with_halo]})
    reval(PROGRAM, net).result()
    heated = np.vstack([plate[:1], *(slab[1:-1] for slab in net.pull("slab")), plate[-1:]])

# %%
# Plain numpy computes the same temperatures for the whole plate, to the last bit.

whole = plate
for _ in range(STEPS):
    whole = step(whole, hot, RATE)
assert np.array_equal(heated, whole)
assert heated.min() >= 0.0 and heated.max() == 100.0

fig, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
image = axes.imshow(heated, cmap="inferno", origin="lower")
axes.contour(heated, levels=[10, 30, 50, 70, 90], colors="white", linewidths=0.8)
for number, rows in enumerate(inner, start=1):
    axes.text(174, rows.mean(), f"engine {number}", color="white", ha="right", va="center")
    if number > 1:
        axes.axhline(rows[0] - 0.5, color="white", linestyle="--", linewidth=1)
axes.set(
    xlabel="x (grid points)", ylabel="y (grid points)", title=f"A plate of three slabs after {STEPS} steps"
)
fig.colorbar(image, label="temperature (°C)", shrink=0.8)
plt.show()
