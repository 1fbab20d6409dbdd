"""The two computations of the demonstration, each in plain serial numpy and distributed over servers.

`reval` sends the text of this file to the engines: the same functions run here and there, and the servers need no
installation of it. `serve_grid` and `serve_heat` run on the servers; the other halves, `spread_grid` and `spread_heat`,
run on the client.
"""

import contextlib
import inspect
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pconnect import Network, precv, psend, reval, select_sockets

Floats = npt.NDArray[np.float64]

# The time limit of every wait, far longer than the work takes, so that the demonstration cannot hang.
_TIMEOUT = 120.0

# The explicit scheme is stable up to 1/4 (von Neumann's condition in two dimensions).
_RATE = 0.24


def send_program(net: Network) -> None:
    """Define the functions of this file in the workspaces of all engines."""
    reval(inspect.getsource(sys.modules[__name__]), net).result(_TIMEOUT)


# ---- Cross-validation of a kernel ridge classifier ----


@dataclass(frozen=True)
class Grid:
    """The task of the cross-validation: images with labels, and the settings to try."""

    images: Floats  #: one image per row, shape ``(n, pixels)``
    labels: npt.NDArray[np.int64]  #: their classes, integers from 0, shape ``(n,)``
    #: Widths of the Gaussian kernel, in the units of the images; penalties of the ridge.
    widths: Sequence[float]
    penalties: Sequence[float]
    folds: int = 5  #: number of parts that the images are divided into

    def settings(self) -> list[tuple[float, float]]:
        """Return all pairs of a width and a penalty."""
        return list(itertools.product(self.widths, self.penalties))


def squared_distances(images: Floats) -> Floats:
    """Return the squared distances between all rows, shape ``(n, n)``."""
    squares = (images * images).sum(axis=1)
    distances: Floats = squares[:, None] + squares[None, :] - 2.0 * (images @ images.T)
    return distances


def validate(
    distances: Floats, labels: npt.NDArray[np.int64], folds: int, width: float, penalty: float
) -> Floats:
    """Cross-validate one setting.

    Returns, for each fold, the share of recognised images and the mean squared error, shape ``(folds, 2)``.
    """
    count = len(labels)
    kernel = np.exp(distances / (-2.0 * width**2))
    targets = np.where(labels[:, None] == np.arange(labels.max() + 1), 1.0, -1.0)
    scores = np.empty((folds, 2))
    for fold in range(folds):
        test = np.arange(count) % folds == fold
        known = ~test
        ridge = kernel[np.ix_(known, known)] + penalty * np.eye(known.sum())
        outputs = kernel[np.ix_(test, known)] @ np.linalg.solve(ridge, targets[known])
        hits = outputs.argmax(axis=1) == labels[test]
        scores[fold] = hits.mean(), ((outputs - targets[test]) ** 2).mean()
    return scores


def serial_grid(grid: Grid) -> Floats:
    """Cross-validate all settings in turn; shape ``(settings, folds, 2)``."""
    distances = squared_distances(grid.images)
    return np.array([validate(distances, grid.labels, grid.folds, *pair) for pair in grid.settings()])


def serve_grid(sockets: Network) -> None:
    """Cross-validate the settings that the client sends, until it sends ``None``; runs in an engine."""
    client = sockets[0]
    data: Any = precv(client)
    distances = squared_distances(data["images"])
    while (task := precv(client)) is not None:
        number, width, penalty = task
        psend((number, validate(distances, data["labels"], data["folds"], width, penalty)), client)


def spread_grid(grid: Grid, net: Network) -> tuple[Floats, list[int]]:
    """Cross-validate all settings on the servers; each server gets the next setting as soon as it has finished one.

    Returns `scores`, like those of `serial_grid`, and `shares`, the number of settings that each server computed.
    """
    settings = grid.settings()
    tasks: Iterator[tuple[int, float, float]] = ((i, *pair) for i, pair in enumerate(settings))
    scores = np.empty((len(settings), grid.folds, 2))
    shares = [0] * len(net)
    command = reval("serve_grid(sockets)", net)
    psend({"images": grid.images, "labels": grid.labels, "folds": grid.folds}, net)
    for server, task in zip(net[1:], tasks, strict=False):
        psend(task, server)
    for _ in settings:
        # One message at a time, so that fast servers do not wait for slow ones.
        node = select_sockets(net, _TIMEOUT)[0]
        number, result = precv(net[node], timeout=_TIMEOUT)
        scores[number] = result
        shares[node] += 1
        with contextlib.suppress(StopIteration):
            psend(next(tasks), net[node])
    psend(None, net)
    command.result(_TIMEOUT)
    return scores, shares[1:]


# ---- Heat in a plate ----


@dataclass(frozen=True)
class Plate:
    """The initial state of a plate, and the points whose temperature is fixed."""

    field: Floats  #: temperatures, shape ``(rows, columns)``; the edges never change
    held: npt.NDArray[np.bool_]  #: other points whose temperature never changes, same shape


def make_plate(rows: int, columns: int) -> Plate:
    """Return a plate at 20 degrees with two hot pipes, a cold pipe and a hot rail."""
    y, x = np.mgrid[0:rows, 0:columns] / rows
    aspect = columns / rows
    field = np.full((rows, columns), 20.0)
    held = np.zeros((rows, columns), dtype=np.bool_)
    for centre_x, centre_y, radius, temperature in (
        (0.22, 0.30, 0.07, 95.0),
        (0.78, 0.62, 0.09, 80.0),
        (0.52, 0.42, 0.08, -20.0),
    ):
        inside = (x - centre_x * aspect) ** 2 + (y - centre_y) ** 2 < radius**2
        field[inside], held[inside] = temperature, True
    rail = (abs(y - 0.80) < 0.012) & (x > 0.12 * aspect) & (x < 0.45 * aspect)
    field[rail], held[rail] = 60.0, True
    return Plate(field, held)


def advance(field: Floats, held: npt.NDArray[np.bool_], new: Floats) -> None:
    """Do one explicit step of the heat equation; the outermost rows and columns of `new` keep their values."""
    inner = field[1:-1, 1:-1]
    around = field[:-2, 1:-1] + field[2:, 1:-1] + field[1:-1, :-2] + field[1:-1, 2:]
    new[1:-1, 1:-1] = inner + _RATE * (around - 4.0 * inner)
    np.copyto(new, field, where=held)


def serial_heat(plate: Plate, steps: int) -> Floats:
    """Return the temperatures after a number of steps."""
    field, new = plate.field.copy(), plate.field.copy()
    for _ in range(steps):
        advance(field, plate.held, new)
        field, new = new, field
    return field


def slab_borders(rows: int, count: int) -> list[int]:
    """Return the first row of each slab, and the end of the last; the plate's outermost rows belong to no slab."""
    return [1 + (rows - 2) * k // count for k in range(count + 1)]


def serve_heat(sockets: Network, steps: int) -> None:
    """Compute one slab, exchanging rows with the servers of the adjacent slabs; runs in an engine.

    The slab has one extra row at each end, a *halo*: a copy of the neighbour's outermost row, or the edge of the plate.
    """
    own, last = sockets.node, len(sockets) - 1
    field: Any
    field, held = precv(sockets[0])
    new = field.copy()
    # The neighbour, the row that it needs, and the row that its message fills.
    borders = [(sockets[own - 1], 1, 0)] if own > 1 else []
    borders += [(sockets[own + 1], -2, -1)] if own < last else []
    for _ in range(steps):
        advance(field, held, new)
        field, new = new, field
        for neighbour, row, _halo in borders:
            psend(field[row], neighbour)
        for neighbour, _row, halo in borders:
            field[halo] = precv(neighbour)
    psend(field[1:-1], sockets[0])


def spread_heat(plate: Plate, steps: int, net: Network) -> Floats:
    """Compute the same result as `serial_heat` on the servers, each with one slab of the plate."""
    borders = slab_borders(len(plate.field), len(net) - 1)
    command = reval(f"serve_heat(sockets, {steps})", net)
    result = plate.field.copy()
    slabs = list(itertools.pairwise(borders))
    for server, (start, stop) in zip(net[1:], slabs, strict=True):
        psend((plate.field[start - 1 : stop + 1], plate.held[start - 1 : stop + 1]), server)
    for server, (start, stop) in zip(net[1:], slabs, strict=True):
        result[start:stop] = precv(server, timeout=_TIMEOUT)
    command.result(_TIMEOUT)
    return result
