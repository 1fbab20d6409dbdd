"""The demonstration's computations: they match independent ones, and the parallel result equals the serial one."""

import importlib
import math

import numpy as np
import pytest

from pconnect import Network
from pserver.demo import work
from pserver.demo.work import Grid, Plate
from tests.support.servers import Server


@pytest.fixture(name="grid")
def _grid() -> Grid:
    """Return a small problem: points of three classes."""
    generator = np.random.default_rng(3)
    labels = np.arange(60) % 3
    images = generator.normal(size=(60, 4)) + 2.0 * labels[:, None]
    return Grid(images, labels, (0.5, 2.0), (0.01, 1.0), folds=3)


def test_squared_distances() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]])
    np.testing.assert_array_equal(work.squared_distances(points), [[0, 25, 9], [25, 0, 16], [9, 16, 0]])


def test_scores_are_those_of_scikit_learn(grid: Grid) -> None:
    ridge = importlib.import_module("sklearn.kernel_ridge")
    for (width, penalty), scores in zip(grid.settings(), work.serial_grid(grid), strict=True):
        for fold, (share, error) in enumerate(scores):
            test = np.arange(60) % 3 == fold
            targets = np.where(grid.labels[:, None] == [0, 1, 2], 1.0, -1.0)
            model = ridge.KernelRidge(alpha=penalty, kernel="rbf", gamma=0.5 / width**2)
            outputs = model.fit(grid.images[~test], targets[~test]).predict(grid.images[test])
            assert share == (outputs.argmax(axis=1) == grid.labels[test]).mean()
            assert math.isclose(error, ((outputs - targets[test]) ** 2).mean(), rel_tol=1e-9)


def test_heat_is_that_of_the_series() -> None:
    # A sine is an eigenvector of the scheme: each step shrinks it by the same factor.
    rows, columns, steps = 17, 33, 40
    y, x = np.mgrid[0:rows, 0:columns]
    sine = np.sin(math.pi * y / (rows - 1)) * np.sin(2 * math.pi * x / (columns - 1))
    inside = np.zeros_like(sine)
    inside[1:-1, 1:-1] = sine[1:-1, 1:-1]
    decay = 1 - 0.48 * (2 - math.cos(math.pi / (rows - 1)) - math.cos(2 * math.pi / (columns - 1)))
    field = work.serial_heat(Plate(inside, np.zeros(sine.shape, np.bool_)), steps)
    np.testing.assert_allclose(field, inside * decay**steps, atol=1e-13)


def test_plate_keeps_what_is_held() -> None:
    plate = work.make_plate(40, 60)
    assert 0 < plate.held.sum() < plate.held.size / 2
    field = work.serial_heat(plate, 30)
    np.testing.assert_array_equal(field[plate.held], plate.field[plate.held])
    np.testing.assert_array_equal(field[[0, -1]], plate.field[[0, -1]])
    np.testing.assert_array_equal(field[:, [0, -1]], plate.field[:, [0, -1]])
    assert -20 <= field.min() < 20 < field.max() <= 95


@pytest.mark.parametrize(("rows", "count"), [(5, 3), (10, 3), (400, 3), (10, 1)])
def test_slabs_cover_all_inner_rows(rows: int, count: int) -> None:
    borders = work.slab_borders(rows, count)
    assert borders[0] == 1
    assert borders[-1] == rows - 1
    assert len(borders) == count + 1
    sizes = np.diff(borders)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("servers", [1, 3])
def test_servers_compute_the_same(server: Server, grid: Grid, servers: int) -> None:
    plate = work.make_plate(24, 36)
    with server.connect(servers) as net:
        work.send_program(net)
        _check(grid, plate, net)


def _check(grid: Grid, plate: Plate, net: Network) -> None:
    scores, shares = work.spread_grid(grid, net)
    np.testing.assert_allclose(scores, work.serial_grid(grid), rtol=0, atol=1e-12)
    assert sum(shares) == len(grid.settings())
    assert len(shares) == len(net) - 1
    np.testing.assert_array_equal(work.spread_heat(plate, 25, net), work.serial_heat(plate, 25))
