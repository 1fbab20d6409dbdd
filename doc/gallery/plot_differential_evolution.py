"""
Differential evolution with scipy
=================================

Give scipy the workers of a network, and fit a model with many local optima.

``differential_evolution`` takes a function like ``map`` as ``workers=``. The ``map`` of :doc:`net.pool() </bridges>`
sends each generation to the servers in chunks.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import differential_evolution

from pconnect import local_network

# %%
# The data
# --------
# Two damped oscillations with noise. A local search for their frequencies gets stuck in a neighbouring peak.

times = np.linspace(0.0, 4.0, 600)
truth = np.array([1.0, 3.1, 0.4, 0.7, 4.3, 0.1])  # amplitude, frequency and damping, twice


def signal(p):
    first = p[0] * np.exp(-p[2] * times) * np.sin(2 * np.pi * p[1] * times)
    return first + p[3] * np.exp(-p[5] * times) * np.sin(2 * np.pi * p[4] * times)


measured = signal(truth) + np.random.default_rng(3).normal(0.0, 0.3, times.size)


def misfit(parameters):
    return float(np.sum((signal(parameters) - measured) ** 2))


# %%
# The fit
# -------
# ``updating="deferred"`` computes a whole generation before it changes the population, so all workers have something to
# do. To use your own machines, write ``pconnect(["alpha", "beta"])`` in place of
# ``local_network(2)``.

bounds = [(0.1, 2), (0.5, 4), (0, 1), (0.1, 2), (4, 8), (0, 1)]


def fit(workers, generations, callback=None):
    options = {"maxiter": generations, "updating": "deferred", "polish": False}
    return differential_evolution(misfit, bounds, rng=5, workers=workers, callback=callback, **options)


best = []
with local_network(2) as net, net.pool() as pool:
    fitted = fit(pool.map, 80, lambda intermediate_result: best.append(intermediate_result.fun))

print("frequencies:", fitted.x[[1, 4]].round(2), "Hz, misfit:", round(fitted.fun, 1))

# %%
# scipy takes the same steps with the workers as in a plain loop.

assert np.array_equal(fit(1, 80).x, fitted.x)
assert np.allclose(fitted.x[[1, 4]], truth[[1, 4]], atol=0.05)

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", width_ratios=[1.6, 1])
left.plot(times, measured, ".", color="darkgray", markersize=3, label="measured")
left.plot(times, signal(truth), color="tab:orange", linewidth=3, label="without noise")
left.plot(times, signal(fitted.x), "--", color="tab:blue", label="fitted")
left.set(xlabel="time (s)", ylabel="signal (V)", title="Two damped oscillations")
left.legend(ncols=3, loc="upper right")
left.set_ylim(-2.2, 2.8)
right.plot(np.arange(1, len(best) + 1), best)
right.axhline(misfit(truth), color="tab:orange", linestyle="--", label="true parameters")
right.set(xlabel="generation", ylabel="misfit (V²)", title="Best of the population")
right.legend()
plt.show()
