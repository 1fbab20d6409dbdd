"""Running commands in a workspace, without an engine process."""

import pytest

from pserver.engine.workspace import Workspace


def test_the_names_stay_from_one_command_to_the_next(workspace: Workspace) -> None:
    assert workspace.run("a = 4", 1, wants_value=True) is None
    assert workspace.run("a += 1\na", 2, wants_value=True) == 5
    assert workspace.run("a", 3, wants_value=False) is None


def test_a_future_import_is_for_its_command_alone(workspace: Workspace) -> None:
    source = "from __future__ import annotations\ndef f(x: undefined): pass\nf.__annotations__"
    assert workspace.run(source, 1, wants_value=True) == {"x": "undefined"}
    with pytest.raises(NameError):
        workspace.run("def f(x: undefined): pass", 2, wants_value=False)
