"""
Power iteration with collectives
================================

Find the largest eigenvalue of a matrix whose rows are spread over the engines.

The first principal component of 1797 images of handwritten digits is an eigenvector of their covariance. Power
iteration finds it with nothing but products of the matrix and a vector. Each engine has a part of the images, and
:doc:`allreduce </reference/collectives>` adds up the parts of the product: no engine ever has all images.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from pconnect import local_network, reval

# %%
# The program of each engine
# --------------------------
# All engines make the same calls in the same order. ``sockets[1:]`` are the engines without the client. ``allreduce``
# adds in the order of the nodes, so all engines have the same vector, to the last bit.

PROGRAM = """
engines = sockets[1:]
count = allreduce(len(rows), engines)
rows = rows - allreduce(rows.sum(axis=0), engines) / count
vector = np.ones(rows.shape[1])
values = []
for _ in range(steps):
    vector = allreduce(rows.T @ (rows @ vector), engines) / count
    values.append(np.linalg.norm(vector))
    vector /= values[-1]
"""

# %%
# Scatter, compute, fetch
# -----------------------
# To use your own machines, write ``pconnect(["alpha", "beta", "gamma"])`` in place of ``local_network(3)``.

images = load_digits().data
with local_network(3) as net:
    net.scatter("rows", images)
    net["steps"] = 150
    reval(PROGRAM, net).result()
    values, vectors = np.array(net[1].pull("values")), net.pull("vector")

# %%
# All engines have the same vector. It is the eigenvector that numpy finds for the whole covariance matrix.

exact, exact_vectors = np.linalg.eigh(np.cov(images.T, bias=True))
assert all(np.array_equal(vectors[0], vector) for vector in vectors[1:])
assert np.isclose(values[-1], exact[-1], rtol=1e-8)
assert np.isclose(abs(vectors[0] @ exact_vectors[:, -1]), 1.0, rtol=1e-8)

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", width_ratios=[1.3, 1])
steps = np.arange(1, len(values) + 1)
left.semilogy(steps, np.abs(values - exact[-1]) / exact[-1], ".-", label="power iteration")
left.semilogy(steps, (exact[-2] / exact[-1]) ** (2 * steps), "--", label="theory: (λ₂ / λ₁)²ᵏ")
left.set(xlabel="step k", ylabel="relative error of the eigenvalue", title="Convergence")
left.legend()
limit = np.abs(vectors[0]).max()
image = right.imshow(vectors[0].reshape(8, 8), cmap="RdBu", vmin=-limit, vmax=limit)
right.set(xlabel="column (pixel)", ylabel="row (pixel)", title="First principal component")
fig.colorbar(image, label="weight", shrink=0.8)
plt.show()
