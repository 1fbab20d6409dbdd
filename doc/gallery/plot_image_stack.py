"""
Image stack
===========

Align 24 noisy, shaken pictures on all processors, and average them.

The workers compare each frame with the first one: :doc:`net.broadcast </reference/jobs>` sends that to each node once.
The photograph comes with scikit-learn; this script adds the shaking and the noise.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from pconnect import local_network

# %%
# Make the stack
# --------------
# Frame k is the photograph, moved by up to 12 pixels, with strong noise.

flower = load_sample_image("flower.jpg").mean(axis=2)[80:336, 200:520] / 255
random = np.random.default_rng(7)
moves = random.integers(-12, 13, (24, 2))
moves[0] = 0
frames = [np.roll(flower, move, axis=(0, 1)) + random.normal(0, 0.25, flower.shape) for move in moves]

# %%
# Align one frame
# ---------------
# The correlation of two pictures has its maximum where they match. The Fourier transform computes it for all shifts.


def align(frame, reference):
    """Return how far the frame was moved, and the frame moved back."""
    match = np.fft.irfft2(np.fft.rfft2(frame) * np.fft.rfft2(reference).conj(), frame.shape)
    move = np.array(np.unravel_index(match.argmax(), match.shape))
    return move, np.roll(frame, -move, axis=(0, 1))


# %%
# Align all of them
# -----------------
# To use your own machines, write ``pconnect(["alpha", "beta"])`` in place of ``local_network(2)``. The client adds
# each result as it arrives, in the order of the frames, and never holds the whole aligned stack.

total, found = np.zeros(flower.shape), []
with local_network(2) as net:
    reference = net.broadcast(frames[0])
    for move, aligned in net.map(align, frames, [reference] * len(frames)):
        found.append(move)
        total += aligned
mean = total / len(frames)

# %%
# The moves are those that were made, and the mean is that of plain numpy.

assert np.array_equal(np.array(found), moves % flower.shape)
still = [np.roll(frame, -move, axis=(0, 1)) for frame, move in zip(frames, moves, strict=True)]
assert np.array_equal(mean, sum(still) / len(still))

noise = [f"noise: {np.std(picture - flower):.2f}" for picture in (frames[0], mean)]
blurred = np.mean(frames, axis=0)
fig, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained", sharey=True)
titles = [f"One frame\n{noise[0]}", "Mean, not aligned", f"Mean, aligned\n{noise[1]}"]
for panel, picture, title in zip(axes, (frames[0], blurred, mean), titles, strict=True):
    image = panel.imshow(picture, cmap="gray", vmin=0, vmax=1)
    panel.set(title=title, xlabel="column (pixel)")
axes[0].set_ylabel("row (pixel)")
fig.colorbar(image, ax=axes, label="brightness (1 = white)", shrink=0.9)
plt.show()
