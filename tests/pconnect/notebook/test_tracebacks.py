import types
from typing import Any

import IPython  # noqa: F401 - always imported where a shell exists

from pconnect.errors import ConnectionLostError, RemoteError
from pconnect.notebook.tracebacks import describe, install, remove, show
from pconnect.views.network_views import ClientNetwork


def failure(node: int, traceback: str = "Traceback (...)\n  x") -> RemoteError:
    return RemoteError(node, f"host{node}", "x = 1\ny", "NameError", "no x", traceback)


def test_identical_errors_are_reported_once() -> None:
    group = ExceptionGroup("", [failure(1), failure(2), failure(3, "Traceback (another)")])
    first, second = describe(group)
    assert first == "NameError on nodes 1 and 2 (host1, host2) in command 'x = 1...'\nTraceback (...)\n  x"
    assert second == "NameError on node 3 (host3) in command 'x = 1...'\nTraceback (another)"


def test_of_many_errors_the_last_are_headlines() -> None:
    blocks = describe(ExceptionGroup("", [failure(node, f"trace {node}") for node in range(1, 7)]))
    assert ["trace" in block for block in blocks] == [True] * 4 + [False] * 2 + [True]


def test_other_errors_and_notes() -> None:
    error = ConnectionLostError("node 1 is lost")
    error.add_note("try again")
    assert describe(error) == ["ConnectionLostError: node 1 is lost", "note: try again"]
    assert describe(KeyboardInterrupt()) == ["KeyboardInterrupt"]


class Shell:
    """The part of IPython's shell that is used here."""

    colors = "NoColor"

    def __init__(self) -> None:
        self.custom: Any = None
        self.shown: list[str] | None = None
        self.passed_on = False
        self.compile = types.SimpleNamespace(format_code_name=lambda _: ("Cell", "In[1]"))

    def set_custom_exc(self, kinds: Any, handler: Any) -> None:
        self.custom = kinds, handler

    def _showtraceback(self, _kind: object, _error: object, lines: list[str]) -> None:
        self.shown = lines

    def showtraceback(self, _: object, tb_offset: int | None = None) -> None:
        assert tb_offset == 1
        self.passed_on = True


def shown_by(shell: Shell, source: str, names: dict[str, Any]) -> str:
    try:
        exec(compile(source, "<cell>", "exec"), names)
    except BaseException as error:  # noqa: BLE001 - like a shell
        # The frame of this test does not belong to the user.
        trace = error.__traceback__
        assert trace is not None
        show(shell, type(error), error, trace.tb_next, 1)
    return "\n".join(shell.shown or [])


def test_only_the_users_frames_are_shown(network: ClientNetwork) -> None:
    shell = Shell()
    text = shown_by(shell, "def f():\n    net[1].eval('1 / 0').result()\nf()", {"net": network})
    assert text.startswith("Cell In[1], line 3\n")
    assert "Cell In[1], line 2, in f" in text
    assert "ZeroDivisionError on node 1" in text
    assert "commands.py" not in text
    assert not shell.passed_on


def test_where_a_wait_was_interrupted_is_not_shown(network: ClientNetwork) -> None:
    source = "def stop():\n    raise KeyboardInterrupt\nnet.mesh.event_loop.run_until(stop, 0, 'nothing')"
    text = shown_by(Shell(), source, {"net": network})
    assert text.startswith("Cell In[1], line 3\n")
    assert text.count("---->") == 1
    assert text.endswith("\nKeyboardInterrupt")
    text = shown_by(Shell(), "net[1].eval('precv(sockets[0])').result(0.1)", {"net": network})
    assert text.startswith("Cell In[1], line 1\n")
    assert "\nTimeoutError: timed out after " in text
    assert text.count("---->") == 1
    network[1].interrupt()


def test_other_errors_are_left_to_ipython() -> None:
    for source in ("raise KeyboardInterrupt", "raise ExceptionGroup('', [ValueError()])"):
        shell = Shell()
        assert shown_by(shell, source, {}) == ""
        assert shell.passed_on


def test_the_handler_is_installed_and_removed() -> None:
    shell = Shell()
    install(shell)
    assert issubclass(RemoteError, shell.custom[0]) and shell.custom[1] is show
    remove(shell)
    assert shell.custom == ((), None)
