"""The picture exists, shows the field, and is replaced each time."""

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def save_picture() -> Callable[..., None]:
    """Return the function. It needs matplotlib, which not every process that collects tests should import."""
    function: Callable[..., None] = importlib.import_module("pserver.demo.picture").save_picture
    return function


def test_hot_is_brighter_than_cold(tmp_path: Path, save_picture: Callable[..., None]) -> None:
    from matplotlib.image import imread

    path = tmp_path / "heat.png"
    path.write_text("an older one")
    field = np.full((40, 60), -20.0)
    field[:, 30:] = 95.0
    save_picture(field, [0, 20, 40], "title", path)
    picture = imread(path)
    height, width = picture.shape[:2]
    row = picture[height // 2 - 40, :, :3].sum(axis=1)
    assert row[width // 4] < 0.5 < row[width // 2 + 60]


def test_a_folder_that_is_not_there(tmp_path: Path, save_picture: Callable[..., None]) -> None:
    with pytest.raises(FileNotFoundError):
        save_picture(np.eye(4) * 95 - 20, [0, 4], "title", tmp_path / "missing" / "heat.png")
