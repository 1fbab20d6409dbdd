"""Whatever strangers do with connections, honest clients can log in, and nothing is left afterwards."""

import contextlib
import re
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import AuthenticationError, pconnect
from pconnect.protocol.frames import Preamble, Purpose
from srp_tools.credentials import Credentials
from srp_tools.errors import ParallelError
from srp_tools.login import log_in
from srp_tools.steps import deadline_after, run
from tests.support.hellos import hello_of
from tests.support.servers import Server, run_server
from tests.support.strangers import (
    Crowd,
    Usage,
    connect_and_leave,
    connect_each_second,
    nothing_left,
    visit,
)
from tests.support.waiting import DEADLINE, wait_until

OTHERS = [f"127.0.0.{number}" for number in range(2, 10)]
SILENCE = 3.0


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server with short time limits."""
    folder = tmp_path_factory.mktemp("door") / "server"
    limits = (f"--silence-timeout={SILENCE}", "--proof-timeout=2", "--login-timeout=6")
    with run_server(folder, *limits) as running:
        yield running


def assert_undisturbed(quiet: list[float], disturbed: list[float]) -> None:
    """Check that no client waited for a place, which is free again after `SILENCE`; allow for a busy machine."""
    assert max(disturbed) <= 2 * statistics.median(quiet) + SILENCE / 2, (quiet, disturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [b"\x16", b"", hello_of("alice")[:-1]], ids=["a byte", "nothing", "almost all"]
)
def test_silent_connections_take_no_place(door: Server, words: bytes) -> None:
    quiet = connect_each_second(door, 3)
    with nothing_left(door), contextlib.ExitStack() as stack:
        for _ in range(17):
            stack.enter_context(visit(door.cmd_port, words))
        assert_undisturbed(quiet, connect_each_second(door, 3))


@pytest.mark.slow
def test_3000_silent_connections_disturb_nobody_not_even_from_their_address(door: Server) -> None:
    quiet = connect_each_second(door, 3)
    with nothing_left(door), Crowd(door.cmd_port, 3000, b"\x16\x03\x01") as crowd:
        before = Usage.of(door)
        begin = time.monotonic()
        disturbed = connect_each_second(door, 8)
        load = (Usage.of(door).seconds - before.seconds) / (time.monotonic() - begin)
        assert len(connect_each_second(door, 2)) == 2
    assert crowd.opened >= 3000
    assert load < 0.9
    assert_undisturbed([max(quiet)], disturbed)


@pytest.mark.slow
def test_a_queue_full_of_logins_delays_another_address_by_one_login(door: Server) -> None:
    """The strangers begin logins and never continue them."""
    with nothing_left(door), Crowd(door.cmd_port, 200, hello_of("alice"), OTHERS[:2], rate=500):
        assert max(connect_each_second(door, 4)) < 8  # a place becomes free within the time limit for proofs


@pytest.mark.slow
def test_who_was_here_before_logs_in_at_once_whoever_poses_as_that_user(tmp_path: Path) -> None:
    """Logins begun in the user's name hold all places open to strangers, with the usual time limits."""
    with run_server(tmp_path / "server") as server, nothing_left(server):
        words = hello_of(server.credentials.user)
        for sources in (OTHERS, OTHERS[:1]):
            with Crowd(server.cmd_port, 60, words, sources, rate=500):
                assert max(connect_each_second(server, 3)) < 4  # as for any login on a busy machine


@pytest.mark.slow
def test_who_was_not_here_before_waits_for_the_first_of_a_crowd_only(tmp_path: Path) -> None:
    with run_server(tmp_path / "server") as server:
        words = hello_of(server.credentials.user)
        with Crowd(server.cmd_port, 60, words, OTHERS[:1], rate=500):
            server.wait_for_log("failed-login")
            assert connect_and_leave(server) < 4


@pytest.mark.slow
def test_without_descriptors_nothing_spins_and_honest_clients_come_in(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", max_descriptors=256) as server:
        with nothing_left(server), Crowd(server.cmd_port, 300, b"\x16\x03\x01", rate=500):
            before, begin = Usage.of(server), time.monotonic()
            time.sleep(4)
            after, seconds = Usage.of(server), time.monotonic() - begin
            assert after.seconds - before.seconds < 0.3 * seconds
            assert after.descriptors <= 256 - 60
            assert max(connect_each_second(server, 3)) < 5
        assert (server.folder / "log").stat().st_size < 100_000


@pytest.mark.slow
def test_10000_connections_leave_nothing(door: Server) -> None:
    with nothing_left(door):
        for number in range(10_000):
            port = door.data_port if number % 2 else door.cmd_port
            visit(port, b"\x16" if number % 3 else b"").close()
            if number % 2500 == 0:
                assert connect_and_leave(door) < 5


def test_a_port_scan_is_nothing(door: Server) -> None:
    with nothing_left(door):
        for words in (
            b"",
            b"\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"SSH-2.0-scan\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00",
        ):
            for port in (door.cmd_port, door.data_port):
                visit(port, words).close()
        assert connect_and_leave(door) < 5


@pytest.mark.slow
def test_tricklers_cost_the_time_of_silence(door: Server) -> None:
    """One byte per second, on both ports."""
    with nothing_left(door), contextlib.ExitStack() as stack:
        begin = time.monotonic()
        words = {door.cmd_port: hello_of("alice"), door.data_port: Preamble(Purpose.DATA).pack()}
        open_ones = {
            stack.enter_context(visit(port)): said for port, said in words.items() for _ in range(25)
        }
        for second in range(int(SILENCE) + 2):
            for sock, said in open_ones.items():
                with contextlib.suppress(OSError):  # already closed
                    sock.sendall(said[second : second + 1])
            connect_and_leave(door)
            time.sleep(max(0.0, begin + second + 1 - time.monotonic()))
        for sock in open_ones:
            sock.settimeout(SILENCE)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(100) == b""


class Stingy(socket.socket):
    """A socket that sends a limited number of bytes."""

    left = 0

    def send(self, data: Any, flags: int = 0) -> int:
        """Send the bytes still allowed, then act like a socket whose peer does not read."""
        if not self.left:
            raise BlockingIOError
        count = super().send(data[: self.left], flags)
        self.left -= count
        return count


@pytest.mark.slow
def test_half_a_login_ends_by_itself(door: Server) -> None:
    """A login stops in the hello, in the key exchange, in the proof, and in the answer after it."""
    with nothing_left(door), contextlib.ExitStack() as stack:
        for number, sent in enumerate((100, 250, 350, 500, 510, 540, 600, 1200)):
            sock = stack.enter_context(Stingy())
            sock.bind((OTHERS[number % len(OTHERS)], 0))
            sock.connect(("127.0.0.1", door.cmd_port))
            sock.setblocking(False)
            sock.left = sent
            with pytest.raises(TimeoutError):
                run(log_in(sock, door.credentials, lambda _: bytes(2000)), deadline_after(0.3))
        assert max(connect_each_second(door, 2)) < 5
        wait_until(lambda: not door.status_now()["sessions"], "the end of all logins", 12)


class Guesser(threading.Thread):
    """Tries wrong passwords from one address for some users, as fast as the server allows."""

    def __init__(self, server: Server, source: str, users: list[str], seconds: float) -> None:
        super().__init__()
        self._server = server
        self._source = source
        self._users = users
        self._end = time.monotonic() + seconds
        self.answers: Counter[tuple[str, str]] = Counter()

    def run(self) -> None:
        while time.monotonic() < self._end:
            for user in self._users:
                try:
                    with visit(self._server.cmd_port, b"", self._source) as sock:
                        sock.setblocking(False)
                        run(log_in(sock, Credentials(user, "wrong"), bytes), deadline_after(DEADLINE))
                except (ParallelError, OSError) as error:
                    self.answers[user, str(error)] += 1
            time.sleep(0.02)


@pytest.mark.slow
def test_guesses_become_slow_then_are_refused_and_keep_nobody_out(tmp_path: Path) -> None:
    with run_server(tmp_path / "server") as server, nothing_left(server):
        quiet = connect_each_second(server, 2)
        guessers = [Guesser(server, source, ["alice", "mallory"], 18) for source in OTHERS[:3]]
        for guesser in guessers:
            guesser.start()
        disturbed = connect_each_second(server, 10)
        for guesser in guessers:
            guesser.join(DEADLINE)
        assert max(disturbed) < max(quiet) + 5
        for guesser in guessers:
            kinds = {
                user: {words for name, words in guesser.answers if name == user}
                for user in ("alice", "mallory")
            }
            assert kinds["alice"] == kinds["mallory"]  # this does not reveal whether the user exists
            assert any("so the server refuses further ones for a while" in words for words in kinds["alice"])
            for user in ("alice", "mallory"):
                guesses = guesser.answers[user, "the user name or the password was not accepted"]
                # Three immediately, then after pauses of 1, 2, 4 and 8 seconds.
                assert 3 <= guesses <= 7, guesser.answers


@pytest.mark.slow
def test_users_at_the_address_of_a_guesser_come_in(tmp_path: Path) -> None:
    with run_server(tmp_path / "server") as server:
        connect_and_leave(server)
        guesser = Guesser(server, "127.0.0.1", [f"user {number}" for number in range(20)], 10)
        guesser.start()
        assert max(connect_each_second(server, 6)) < 6
        guesser.join(DEADLINE)


@pytest.mark.slow
def test_who_is_locked_out_reads_why_and_the_same_user_from_elsewhere_is_not(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", "--max-failures=1") as server:
        answers = []
        for _ in range(5):
            with pytest.raises(AuthenticationError) as caught:
                pconnect(server.host, user=server.credentials.user, password="wrong", timeout=DEADLINE)
            answers.append(str(caught.value))
        assert "the user name or the password was not accepted" in answers[0]
        assert "so the server refuses further ones for a while" in answers[4]
        with pytest.raises(AuthenticationError, match="so the server refuses further ones for a while"):
            server.connect()  # with the right password, but from the guesser's address
        offers: list[bytes] = []

        def answer(offer: bytes) -> bytes:
            offers.append(offer)
            return b"nonsense"

        with visit(server.cmd_port, b"", "127.0.0.7") as sock, contextlib.suppress(ParallelError):
            sock.setblocking(False)
            run(log_in(sock, server.credentials, answer), deadline_after(5))
        assert len(offers) == 1


@pytest.mark.slow
def test_a_server_with_one_place_serves_all_in_the_end(tmp_path: Path) -> None:
    """Clients that are turned away try again."""
    with run_server(tmp_path / "server", "--max-startups=1", "--login-processes=1") as server:
        names = [f"{name}:{server.cmd_port}" for name in ("127.0.0.1", "localhost", "127.1")]
        user, password = server.credentials.user, server.credentials.password
        with pconnect(names, user=user, password=password, timeout=DEADLINE) as net:
            assert len(server.sessions(net)) == 3
        turned_away = r"refused from 127\.0\.0\.1 port \d+ .*too many clients want to log in"
        server.wait_for_log(re.compile(turned_away))


@pytest.mark.slow
def test_only_those_who_are_listed(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", "--allow-from=127.0.0.1", "--allow-users=bob,carol") as server:
        with pytest.raises(AuthenticationError, match="the user name or the password was not accepted"):
            server.connect()
        with visit(server.cmd_port, b"", "127.0.0.2") as sock, contextlib.suppress(ConnectionResetError):
            assert sock.recv(10) == b""
        server.wait_for_log("127.0.0.2")
        server.wait_for_log("not among the addresses of --allow-from")
