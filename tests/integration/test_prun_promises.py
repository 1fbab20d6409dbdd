"""Rules and options of `prun`, as the program itself sees them: where it runs, and its environment."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from srp_tools.credentials import Credentials
from tests.support.deploying import free_ports
from tests.support.programs import program
from tests.support.prun import SCRIPT, Prun, prun_user
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE

# Addresses of this machine, which serve as separate hosts.
PLACES = {"first": "127.0.0.2", "second": "127.0.0.3"}
WHERE = ["sh", "-c", "echo $PLACE"]


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[list[Server]]:
    """Yield two servers whose environment names them."""
    with ExitStack() as stack:
        running = []
        for place, address in PLACES.items():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PLACE", place)
                data_port = f"--data-port={free_ports()[0]}"  # it is free on the forwarders' address, too
                folder = tmp_path_factory.mktemp(place)
                server = run_server(folder, "--slots=2", data_port, bind=address, users=users)
                running.append(stack.enter_context(server))
        yield running


@pytest.fixture
def user(tmp_path: Path, servers: list[Server]) -> Iterator[Prun]:
    with prun_user(tmp_path, servers) as user:
        yield user


def shown(user: Prun, *words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Return the output of a program that succeeds."""
    done = user.run(*words, cwd=cwd, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def test_profiles_have_servers_of_their_own(user: Prun, servers: list[Server]) -> None:
    folder = Path(user.environment["XDG_CONFIG_HOME"]) / "pserver" / "client"
    folder.mkdir(mode=0o700, parents=True)
    texts = [
        f"[profiles.{place}]\nhosts = [{server.host!r}]\n"
        for place, server in zip(PLACES, servers, strict=True)
    ]
    (folder / "pconnect.toml").write_text("\n".join(texts))
    hosts = user.environment.pop("PCONNECT_HOSTS")
    for place in ("second", "first", "second"):
        chosen = {"PCONNECT_PROFILE": place}
        assert shown(user, *WHERE, env=chosen) == f"{place}\n"
    for place in PLACES:
        shown(user, "--agent", "stop", env={"PCONNECT_PROFILE": place})
    user.environment["PCONNECT_HOSTS"] = hosts


def test_servers_behind_forwarders_are_ports_of_this_machine(tmp_path: Path, servers: list[Server]) -> None:
    """As with two ``ssh -L`` for each: the command port may get any number, the data port keeps its own."""
    with ExitStack() as stack:
        doors, ways = [], []
        for address, server in zip(PLACES.values(), servers, strict=True):
            doors.append(stack.enter_context(Forwarder(0, (address, server.cmd_port))))
            ways.append(stack.enter_context(Forwarder(server.data_port, (address, server.data_port))))
        hosts = [f"localhost:{door.port}" for door in doors]
        user = stack.enter_context(prun_user(tmp_path / "behind", servers, " ".join(hosts)))
        folder = Path(user.environment["XDG_CONFIG_HOME"]) / "pserver" / "client"
        folder.mkdir(mode=0o700, parents=True)
        (folder / "pconnect.toml").write_text("local_links = false\n")  # as between two machines
        data = b"x" * 300_000
        for host, place, way in zip(hosts, PLACES, ways, strict=True):
            assert shown(user, "--on", host, *WHERE) == f"{place}\n"
            assert user.run("--on", host, "cat", input=data).stdout == data
            assert way.passed > 2 * len(data)


class Forwarder:
    """Forwards connections to a loopback port (0: any free one). `passed`: bytes in both directions."""

    def __init__(self, port: int, target: tuple[str, int]) -> None:
        self.passed = 0
        self._target = target
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._begin(self._accept)

    def __enter__(self) -> "Forwarder":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:  # the first one starts the others
            thread.join()
        self._listener.close()

    def _begin(self, function: Callable[..., None], *arguments: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the end
            while True:
                near, _ = self._listener.accept()
                self._begin(self._join, near, socket.create_connection(self._target))

    def _join(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            back = threading.Thread(target=self._pass_on, args=(far, near))
            back.start()
            self._pass_on(near, far)
            back.join()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                sink.sendall(data)
                self.passed += len(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_rule_keeps_programs_here_or_sends_them_to_a_server(user: Prun, servers: list[Server]) -> None:
    user.write_rules(
        f'[[rule]]\nmatch = "sh"\non = "{servers[1].host}"\n'
        '[[rule]]\nmatch = "sh"\nargs = "*private*"\nwhere = "local"\n'
    )
    for _ in range(3):
        assert shown(user, *WHERE) == "second\n"
    assert shown(user, *WHERE, "/private/file") == "\n"
    report = shown(user, "--report").splitlines()
    assert ["sh", "here", "1"] in [line.split()[:3] for line in report]


def test_a_name_is_not_its_end(user: Prun, tmp_path: Path) -> None:
    """A rule for `sh` does not apply to other programs whose names end in it."""
    mine = tmp_path / "mysh"
    mine.write_text("#!/bin/sh\necho $PLACE\n")
    mine.chmod(0o755)
    user.write_rules('[[rule]]\nmatch = "sh"\nwhere = "local"\n')
    assert shown(user, mine) in {"first\n", "second\n"}


def test_priorities_are_lowered_by_option_and_rule(user: Prun) -> None:
    nice = ["sh", "-c", "nice"]
    usual = int(shown(user, *nice))
    assert int(shown(user, "--nice", "5", *nice)) == usual + 5
    user.write_rules('[[rule]]\nmatch = "sh"\nnice = 7\n')
    assert int(shown(user, *nice)) == usual + 7
    assert user.run("--nice", "-5", *nice).returncode == 125


def test_variables_are_those_that_are_asked_for(user: Prun) -> None:
    script = ["sh", "-c", 'echo "$A-$B-$MAKEFLAGS"; test "$PWD" = "$(pwd)"']
    env = {"A": "1", "B": "2", "MAKEFLAGS": "x"}
    assert shown(user, *script, env=env) == "--\n"
    assert shown(user, "--env", "A", "--env", "C", "--env", "B=3", *script, env=env) == "1-3-\n"
    assert shown(user, "--env-all", *script, env=env) == "1-2-\n"
    assert shown(user, "--env-all", "sh", "-c", "echo $PLACE $PCONNECT_PASSWORD", env={"PLACE": "here"}) == (
        "here\n"
    )
    user.write_rules('[[rule]]\nmatch = "sh"\nenv = ["A", "B=4"]\n')
    assert shown(user, *script, env=env) == "1-4-\n"


def test_no_shell_looks_at_the_words(user: Prun) -> None:
    words = ["|", "&&", ";", "||", ">", "<", "$HOME", "`id`", "*", "~"]
    assert shown(user, "echo", *words).split() == words
    assert shown(user, "sh", "-c", "echo a | tr a b; echo $((1 + 1))") == "b\n2\n"


def test_output_comes_as_soon_as_it_is_written(user: Prun) -> None:
    """The program continues when it gets an answer to its prompt."""
    script = "printf 'name? '; read name; printf 'age? ' >&2; read age; echo $name $age"
    with user.start("sh", "-c", script, bufsize=0) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        assert process.stdout.read(6) == b"name? "
        process.stdin.write(b"ann\n")
        assert process.stderr.read(5) == b"age? "
        process.stdin.write(b"30\n")
        assert process.stdout.read() == b"ann 30\n"


def test_folders_and_programs_have_other_names_there(user: Prun, tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "project", tmp_path / "there" / "project"
    here.mkdir(parents=True)
    assert user.run("--map-dir", f"{here.parent}={there.parent}", "pwd", cwd=here).returncode == 125
    there.mkdir(parents=True)
    assert shown(user, "--map-dir", f"{here.parent}={there.parent}", "pwd", cwd=here) == f"{there}\n"
    user.write_rules(
        f'[map_dir]\n"{here.parent}" = "{there.parent}"\n[[rule]]\nmatch = "my-shell"\ncommand = "/bin/sh"\n'
    )
    assert shown(user, "my-shell", "-c", "pwd", cwd=here) == f"{there}\n"


def test_make_runs_as_many_steps_as_there_are_slots(user: Prun, tmp_path: Path) -> None:
    """Each step waits until three others have begun, so four of them must run at the same time."""
    program("make", "make")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "Makefile").write_text(
        "all: 1 2 3 4\n"
        "1 2 3 4:\n"
        f"\t@{SCRIPT} --time-limit {DEADLINE:g} sh -c 'touch began-$@; "
        "until [ $$(ls began-* | wc -l) = 4 ]; do sleep 0.05; done; touch $@'\n"
    )
    done = subprocess.run(
        ["sh", "-c", f'test "$({SCRIPT} --slots)" = 4 && make -j"$({SCRIPT} --slots)"'],
        cwd=tmp_path / "work",
        env=user.environment,
        capture_output=True,
        check=False,
        timeout=2 * DEADLINE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert {path.name for path in (tmp_path / "work").glob("?")} == set("1234")
