"""
Parameter sweep
===============

Solve an epidemic model for 400 pairs of parameters, on all processors of all servers.

The SIR model has two rates: people infect others at rate ``beta``, and recover at rate ``gamma``. How many are ill on
the worst day? Each pair of rates gives one differential equation, independent of all others.
:doc:`net.pmap </reference/jobs>` takes arrays of arguments and returns an array of results.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import solve_ivp

from pconnect import local_network

# %%
# The model
# ---------
# A plain function of numbers. ``pmap`` sends it to the workers, so your servers need scipy, but not this file.


def worst_day(beta, gamma):
    """Return the largest part of the population that is ill at the same time."""

    def rates(_, state):
        susceptible, ill = state
        return [-beta * susceptible * ill, beta * susceptible * ill - gamma * ill]

    days = solve_ivp(rates, (0, 365), [0.999, 0.001], rtol=1e-6)
    return float(days.y[1].max())


# %%
# The sweep
# ---------
# To use your own machines, write ``pconnect(["alpha", "beta"])`` in place of ``local_network(2)``.

betas = np.linspace(0.05, 1.0, 20)
gammas = np.linspace(0.05, 0.5, 20)
beta_grid, gamma_grid = np.meshgrid(betas, gammas)

with local_network(2) as net:
    peak = net.pmap(worst_day, beta_grid, gamma_grid)

print(peak.shape, f"largest: {peak.max():.1%}")

# %%
# The result has the shape of the arguments, and the same values as a plain loop.

assert np.array_equal(peak[7], [worst_day(beta, gammas[7]) for beta in betas])
assert np.all(peak[beta_grid < gamma_grid] < 0.0011)  # the number of ill people never grows

fig, axes = plt.subplots(figsize=(7, 4.8), layout="constrained")
image = axes.pcolormesh(betas, gammas, 100 * peak, cmap="viridis")
axes.plot([0.05, 0.5], [0.05, 0.5], "w--")
axes.text(0.07, 0.4, "no epidemic:\nbeta < gamma", color="white")
axes.set(xlabel="infection rate beta (1/day)", ylabel="recovery rate gamma (1/day)")
axes.set_title("Worst day of an epidemic")
fig.colorbar(image, label="ill at the same time (% of the population)")
plt.show()
