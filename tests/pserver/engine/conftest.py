import sys
from collections.abc import Iterator

import pytest

from pserver.engine.workspace import Workspace
from tests.support.links import networks


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    main, path = sys.modules["__main__"], sys.path[:]
    try:
        with networks(2) as nets:
            yield Workspace(nets[1])
    finally:
        sys.modules["__main__"], sys.path[:] = main, path
