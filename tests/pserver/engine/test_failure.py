"""Descriptions of failures, without an engine process."""

from pconnect.errors import UnsupportedValueError
from pserver.engine.failure import describe
from pserver.engine.workspace import Workspace


def failing(workspace: Workspace, source: str) -> BaseException:
    try:
        workspace.run(source, 7, wants_value=True)
    except BaseException as error:  # noqa: BLE001 - as the engine does
        assert error.__traceback__ is not None
        return error.with_traceback(error.__traceback__.tb_next)  # without this function
    raise AssertionError(f"{source!r} did not fail")


def test_a_failure_has_the_lines_of_the_user_and_not_ours(workspace: Workspace) -> None:
    told = describe(failing(workspace, "def f(x):\n    return 1 / x\nf(0)"))
    assert told["type"] == "ZeroDivisionError"
    assert told["bases"][0] == "ZeroDivisionError"
    assert told["message"] == "division by zero"
    assert "return 1 / x" in told["traceback"] and "f(0)" in told["traceback"]
    assert "pserver/engine/workspace.py" not in told["traceback"]


def test_the_mark_stands_below_the_place_also_in_the_last_line(workspace: Workspace) -> None:
    told = describe(failing(workspace, "x = 1 / 0"))
    assert "\n    x = 1 / 0\n        ~~^~~\n" in told["traceback"]


def test_where_this_package_raises_its_own_frames_are_left_out(workspace: Workspace) -> None:
    told = describe(failing(workspace, "psend(object(), sockets[0])"))
    assert told["type"] == UnsupportedValueError.__name__
    assert "psend(object(), sockets[0])" in told["traceback"]
    assert "primitives.py" not in told["traceback"]


def test_the_way_out_of_a_context_manager_is_left_out(workspace: Workspace) -> None:
    lines = ["import contextlib", "@contextlib.contextmanager", "def block():", "    yield"]
    source = "\n".join([*lines, "    psend(object(), sockets[0])", "with block(): pass"])
    told = describe(failing(workspace, source))
    assert "psend(object(), sockets[0])" in told["traceback"]
    assert "contextlib.py" not in told["traceback"]


def test_causes_are_told_too(workspace: Workspace) -> None:
    told = describe(
        failing(workspace, "try:\n    1 / 0\nexcept Exception as e:\n    raise ValueError('b') from e")
    )
    assert "ZeroDivisionError" in told["traceback"] and "direct cause" in told["traceback"]


def test_an_exception_whose_text_fails(workspace: Workspace) -> None:
    source = "class Odd(Exception):\n    def __str__(self): return 1 / 0\nraise Odd"
    told = describe(failing(workspace, source))
    assert told["type"] == "Odd"
    assert "not available" in told["message"]
    assert told["traceback"]


def test_what_programs_look_at_is_told(workspace: Workspace) -> None:
    assert describe(failing(workspace, "{}['a']"))["fields"] == {"args": ("a",)}
    told = describe(failing(workspace, "open('/missing/file')"))["fields"]
    assert (told["errno"], told["filename"]) == (2, "/missing/file")
