"""Resuming a session under its user's account, on a server run by root."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect.views.network_views import ClientNetwork
from tests.support.accounts import needs_root
from tests.support.own_accounts import NUMBERS, accounts_server, passable_folder, password_of
from tests.support.resuming import come_back, orphans
from tests.support.servers import Server
from tests.support.waiting import wait_until

pytestmark = [needs_root, pytest.mark.slow]
LIMIT = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with passable_folder() as folder, accounts_server(folder, "--orphan-timeout=5") as running:
        yield running


def vanish(net: ClientNetwork) -> None:
    """Close the connections abruptly."""
    net.mesh.event_loop.close()


def test_each_user_comes_back_to_their_own_session(server: Server, tmp_path: Path) -> None:
    ours, theirs = sorted(NUMBERS)[:2]
    for user in (ours, theirs):
        net = server.connect(
            2, user=user, password=password_of(user), resume=tmp_path / user, local_links=True
        )
        net.eval(f"import os; x = {user!r}, os.getuid()").result(LIMIT)
        vanish(net)
    wait_until(lambda: len(orphans(server)) == 2, "both sessions to wait")
    copy = tmp_path / "copy"
    copy.write_text((tmp_path / theirs).read_text())
    copy.chmod(0o600)
    with come_back(copy, server, user=ours, password=password_of(ours)) as net:
        assert not net.resumed
    for user in (ours, theirs):
        with come_back(tmp_path / user, server, user=user, password=password_of(user)) as net:
            assert net.pull("x") == [(user, NUMBERS[user])] * 2
            net.restart(timeout=LIMIT)
            assert net.eval("__import__('os').getuid()").result(LIMIT) == [NUMBERS[user]] * 2
