"""
Live plot from engines
======================

Draw curves while the engines still compute.

Each engine simulates a magnet at its own temperature, and sends its state after every sweep. The client waits for
the next message with :doc:`select_sockets </tutorial>`, and draws it.
"""

import matplotlib.pyplot as plt
import numpy as np

from pconnect import local_network, precv, reval, select_sockets

TEMPERATURES, SWEEPS, SIZE = [1.8, 2.27, 3.0], 150, 64

# %%
# The simulation
# --------------
# The Ising model: spins of a lattice point up or down, and like to agree with their neighbours. One sweep
# renews the black points of a chessboard, then the white ones. The generator yields the spins after each sweep.


def magnet(temperature, sweeps, size):
    random = np.random.default_rng(11)
    spins = np.ones((size, size), dtype=np.int8)
    black = np.indices(spins.shape).sum(axis=0) % 2 == 0
    for _ in range(sweeps):
        for color in (black, ~black):
            around = sum(np.roll(spins, shift, axis) for shift in (-1, 1) for axis in (0, 1))
            up = random.random(spins.shape) < 1 / (1 + np.exp(-2 * around / temperature))
            spins = np.where(color, np.where(up, 1, -1), spins).astype(np.int8)
        yield spins


PROGRAM = """
for spins in magnet(temperatures[sockets.node - 1], sweeps, size):
    psend(spins, sockets[0])
"""

# %%
# The live figure
# ---------------
# ``plt.pause`` shows the figure in its window; in a notebook, ``display(fig)`` does. To use your own machines, write
# ``pconnect(["alpha", "beta", "gamma"])`` in place of ``local_network(3)``.

fig, panels = plt.subplot_mosaic([["curves"] * 3, [1, 2, 3]], figsize=(8, 6), layout="constrained")
axes = panels["curves"]
axes.set(xlabel="sweep", ylabel="magnetisation (1 = all up)", xlim=(0, SWEEPS), ylim=(-0.3, 1.05))
curves = {node: [] for node in (1, 2, 3)}
lines, images = {}, {}
for node, temperature in enumerate(TEMPERATURES, start=1):
    (lines[node],) = axes.plot([], [], label=f"T = {temperature}")
    images[node] = panels[node].imshow(np.ones((SIZE, SIZE)), cmap="gray", vmin=-1, vmax=1)
    panels[node].set(title=f"Engine {node}: T = {temperature}", xlabel="column", ylabel="row")
axes.legend(loc="lower left", title="temperature")

with local_network(3) as net:
    net.push({"magnet": magnet, "temperatures": TEMPERATURES, "sweeps": SWEEPS, "size": SIZE})
    command = reval(PROGRAM, net)
    for count in range(3 * SWEEPS):
        node = select_sockets(net)[0]
        spins = precv(net[node])
        curves[node].append(spins.mean())
        lines[node].set_data(np.arange(len(curves[node])), curves[node])
        images[node].set_data(spins)
        if count % 50 == 0:
            plt.pause(0.01)  # drawing takes longer than a sweep
    command.result()

# %%
# Plain numpy computes the same curves on this machine.

for node, temperature in enumerate(TEMPERATURES, start=1):
    states = list(magnet(temperature, SWEEPS, SIZE))
    assert np.array_equal(curves[node], [spins.mean() for spins in states])
assert curves[1][-1] > 0.9 > abs(curves[3][-1])
plt.show()
