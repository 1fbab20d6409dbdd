"""Service hours of real servers, with wall clocks set shortly before the limits."""

from pathlib import Path

import pytest

from pconnect import ConnectionLostError, ServerRefusedError
from srp_tools.credentials import Credentials
from tests.support.networks import assert_works
from tests.support.servers import Server, connect, run_server
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
        why = "its hours are 17:00 to 06:00 (--service-start, --service-stop), and it opens again at 17:00"
        assert str(caught.value).endswith(f"accepts no new session now: {why}")

        def is_open() -> bool:
            try:
                with server.connect() as net:
                    assert_works(net)
            except ServerRefusedError:
                return False
            return True

        wait_until(is_open, "17:00")


HOURS = ("--service-start=17:00", "--service-stop=6:00", "--service-end=8:00")


def name_of_server(seconds: float) -> str:
    """Work for a while; return the time zone."""
    import os
    import time

    time.sleep(seconds)
    return os.environ["TZ"]


def longer_there(zone: str, seconds: float) -> str:
    """Work for long on a server in one time zone, briefly in others; return the time zone."""
    import os
    import time

    time.sleep(seconds if os.environ["TZ"] == zone else 0.0)
    return os.environ["TZ"]


@pytest.mark.slow
def test_after_the_stop_no_job_begins_and_at_the_end_jobs_go_elsewhere(
    tmp_path: Path, users: tuple[Credentials, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stays, stops = zone_where_it_is("12:00:00"), zone_where_it_is("05:59:52")
    monkeypatch.setenv("TZ", stays)
    with run_server(tmp_path / "stays", "--slots=1", users=users) as open_always:
        monkeypatch.setenv("TZ", stops)
        with run_server(tmp_path / "stops", *HOURS, "--slots=1", users=users) as stopping:
            assert stopping.status["admission"]["words"] == "open until 06:00, hard end 08:00"
            with connect([stopping, open_always]) as net:
                running = net[1].submit(name_of_server, 12.0)
                wait_until(lambda: slots(stopping) == 1, "the job to run")
                wait_until(lambda: words(stopping).startswith("closed until 17:00"), "06:00")
                later = [net.submit(name_of_server, 0.01) for _ in range(3)]
                assert [job.result(40) for job in later] == [stays] * 3
                assert running.result(40) == stops  # running jobs continue


def slots(server: Server) -> int:
    return int(server.status_now()["slots"]["used"])


def words(server: Server) -> str:
    return str(server.status_now()["admission"]["words"])


@pytest.mark.slow
def test_at_the_end_sessions_end_and_jobs_that_may_run_again_do_so_elsewhere(
    tmp_path: Path, users: tuple[Credentials, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = zone_where_it_is("12:00:00")
    monkeypatch.setenv("TZ", noon)
    with run_server(tmp_path / "stays", "--slots=1", users=users) as stays:
        zone = zone_where_it_is("07:59:52")
        monkeypatch.setenv("TZ", zone)
        # Its sessions end only at the hard end, so a session can still start just before.
        with run_server(
            tmp_path / "ends", "--service-start=17:00", "--service-end=8:00", "--slots=1", users=users
        ) as ends:
            with connect([ends, stays]) as net:
                command = net[1].eval("import time; time.sleep(600)")
                with net.executor(retries=1) as pool:
                    jobs = [pool.submit(longer_there, zone, 600.0) for _ in range(2)]
                    assert [job.result(60) for job in jobs] == [noon] * 2
                with pytest.raises(
                    ConnectionLostError, match="service hours: the server ends all sessions at 08:00"
                ):
                    command.result()
            assert "--service-end" in ends.log


@pytest.mark.slow
def test_a_server_ends_after_so_many_sessions(tmp_path: Path, users: tuple[Credentials, Path]) -> None:
    with run_server(tmp_path, "--serve=2", users=users) as server:
        first = server.connect()
        with server.connect(2) as second:  # two engines share one session
            with pytest.raises(ServerRefusedError, match=r"it serves only 2 sessions in total \(--serve\)"):
                server.connect()
            assert_works(second)
        assert server.process.poll() is None
        first.close()
        assert server.process.wait(20) == 0
        assert "it has served 2 session(s) (--serve)" in server.log
        assert server.log.count("audit session-end ") == 2
