"""Files, displays and arrays between a client and a real engine carry no more than they may."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pconnect import ParallelError, precv, psend, reval
from pconnect.commands.front_end_messages import Display
from pconnect.session.client_mesh import ClientMesh
from tests.support.servers import Server
from tests.support.waiting import DEADLINE

POSING = (
    "<div class='jp-Toolbar' id='main' style='position:fixed;top:0;margin:-9em;z-index:9;color:red'>x</div>"
)
PADDED_ITEM: np.dtype[Any] = np.dtype("i1,i8", align=True)
ITEMS = 500
# Fill free memory with a pattern, make an array whose bytes are all 7, and send parts of it.
SEND_PADDED = f"""
import numpy as np
dtype = np.dtype("i1,i8", align=True)
for step in (1, 2, -1):
    kept = [np.full(size, 0xAB, np.uint8) for size in (64, 512, 4096, {ITEMS * 16}) for _ in range(40)]
    array = np.full({ITEMS} * dtype.itemsize, 7, np.uint8).view(dtype)[::step]
    kept.clear()
    psend(array, sockets[0])
"""


def test_put_and_get_have_one_rule_for_paths_and_links(server: Server, tmp_path: Path) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside"
    source.write_text("new")
    outside.mkdir()
    (outside / "secret").write_text("secret")
    with server.connect() as net:
        node = net[1]
        for remote in ("../x", "~/../x", "a/../../x", "~/a/../../x"):
            with pytest.raises(ParallelError, match="leads out of the"):
                node.put(source, remote)
            with pytest.raises(ParallelError, match="leads out of the"):
                node.get(remote, tmp_path / "got")
        node.eval(f"(session_files / 'way').symlink_to({str(outside)!r})").result(DEADLINE)
        node.eval(f"(session_files / 'file').symlink_to({str(outside / 'secret')!r})").result(DEADLINE)
        for remote in ("way", "way/secret", "file"):
            with pytest.raises(ParallelError, match="leads through a symbolic link to"):
                node.get(remote, tmp_path / "got")
        with pytest.raises(ParallelError, match="leads through a symbolic link to"):
            node.put(source, "way/new")
        node.put(source, "file")  # replacing the link
    assert not (tmp_path / "got").exists()
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"


def test_html_of_an_engine_cannot_pose_as_the_page(server: Server) -> None:
    kept: list[Display] = []
    source = f"""
        class Posing:
            def _repr_html_(self):
                return {POSING!r}
        display(Posing())
        """
    with server.connect() as net:
        assert isinstance(net.mesh, ClientMesh)
        net.mesh.sink = kept.append
        reval(source, net[1]).result(DEADLINE)
    [display] = kept
    assert display.data["text/html"] == '<div style="color: red;">x</div>'


def padding_of(data: bytes) -> bytes:
    size = PADDED_ITEM.itemsize
    return b"".join(data[at + 1 : at + 8] for at in range(0, len(data), size))


def test_padding_leaves_an_engine_and_arrives_there_as_zeros(server: Server) -> None:
    """The link uses TLS, so no memory is shared. Both sides check the received data byte by byte."""
    with server.connect(local_links=False) as net:
        command = reval(SEND_PADDED, net[1])
        for step in (1, 2, -1):
            array = precv(net[1], timeout=DEADLINE)
            assert len(array) == len(range(ITEMS)[::step])
            assert set(padding_of(ctypes.string_at(array.ctypes.data, array.nbytes))) == {0}
        command.result(DEADLINE)
        reval(
            "import ctypes; a = precv(sockets[0]); psend(ctypes.string_at(a.ctypes.data, a.nbytes), sockets[0])",
            net,
        )
        psend(np.full(ITEMS * 16, 7, np.uint8).view(PADDED_ITEM)[::2], net[1])
        assert set(padding_of(precv(net[1], timeout=DEADLINE))) == {0}
