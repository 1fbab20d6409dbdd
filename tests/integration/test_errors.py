"""The text and the attributes of errors from real engines and workers."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pconnect import EngineDiedError, RemoteError, network_get_info, reval
from pconnect.views.network_views import ClientNetwork
from tests.support.waiting import DEADLINE


def test_errors_of_commands_and_jobs_keep_errno_filename_and_args(
    network: Callable[..., ClientNetwork],
) -> None:
    net = network(1)

    def fails() -> None:
        open("/missing/file")  # noqa: PTH123, SIM115 - it cannot be opened

    for future in (net.apply(fails)[0], net.submit(fails), reval("open('/missing/file')", net[1])):
        with pytest.raises(FileNotFoundError) as caught:
            future.result(DEADLINE)
        assert isinstance(caught.value, RemoteError)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "/missing/file")
    empty: dict[object, object] = {}
    for future in (reval("{}['a', 3]", net[1]), net.submit(lambda: empty["a", 3])):
        with pytest.raises(KeyError) as missing:
            future.result(DEADLINE)
        assert missing.value.args == (("a", 3),)


def test_the_error_of_several_nodes_names_them_and_the_first_of_them(
    network: Callable[..., ClientNetwork],
) -> None:
    net = network(3)
    with pytest.raises(ExceptionGroup) as caught:
        reval("1 / (sockets.node - 2)\nif sockets.node != 2: raise OSError(28, 'full')", net).result(DEADLINE)
    text = str(caught.value)
    assert "failed on 3 nodes (1, 2 and 3); OSError on node 1" in text
    assert "[Errno 28] full" in text


def test_an_engine_that_is_killed_while_it_is_idle_did_not_die_in_the_next_command(
    network: Callable[..., ClientNetwork],
) -> None:
    net = network(1)
    os.kill(net[1].eval("import os; os.getpid()").result(DEADLINE), signal.SIGKILL)
    # This client does not know yet, so it sends the command.
    with pytest.raises(EngineDiedError) as caught:
        net[1].eval("v").result(DEADLINE)
    assert "in command" not in str(caught.value)
    assert str(caught.value).endswith("; to continue: net[1].restart()")


def test_a_client_whose_folder_was_removed_has_a_network(
    network: Callable[..., ClientNetwork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    net = network(1)
    own, engine = network_get_info(net, timeout=DEADLINE)
    assert own["directory"] == ""
    assert not engine["directory_is_clients"]
    assert Path(engine["directory"]).is_dir()
