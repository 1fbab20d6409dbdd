"""The hours of real servers, by wall clocks that are set so that it is soon time."""

from pathlib import Path

import pytest

from pconnect import ServerRefusedError
from srp_tools.credentials import Credentials
from tests.support.networks import assert_works
from tests.support.servers import run_server
from tests.support.waiting import wait_until
from tests.support.wall_clocks import zone_where_it_is


@pytest.mark.slow
def test_a_closed_server_says_when_it_opens_and_then_does(
    tmp_path: Path, users: tuple[Credentials, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone_where_it_is("16:59:50"))
    hours = ("--service-start=17:00", "--service-stop=6:00", "--service-end=8:00")
    with run_server(tmp_path, *hours, users=users) as server:
        assert server.status["admission"]["words"] == "closed until 17:00"
        with pytest.raises(ServerRefusedError) as caught:
            server.connect()
        why = "its hours are 17:00 to 06:00 (--service-start, --service-stop), and it opens at 17:00 again"
        assert str(caught.value).endswith(f"takes no new session now: {why}")

        def is_open() -> bool:
            try:
                with server.connect() as net:
                    assert_works(net)
            except ServerRefusedError:
                return False
            return True

        wait_until(is_open, "17:00")
