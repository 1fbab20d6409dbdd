"""Starting programs: which file runs, and the errors."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import local_network
from pconnect.executors.executor import scheduler_of
from pconnect.jobs.job import JobOptions
from pconnect.programs.program import CapturedProgram, prepare
from pconnect.session.remote_calls import mesh_of
from pconnect.views.network_views import ClientNetwork


@pytest.fixture(scope="module")
def net() -> Iterator[ClientNetwork]:
    with local_network(1) as made:
        yield made


def test_what_cannot_be_started_says_where_and_why(net: ClientNetwork, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    lost = tmp_path / "lost"
    lost.write_text("#!/no/interpreter\n")
    lost.chmod(0o755)
    for words, kind, text in (
        (
            ["no-such-program"],
            FileNotFoundError,
            "there is no program no-such-program in (PATH, which is .*/bin|its PATH, which sh -c )",
        ),
        ([f"{tmp_path}/none"], FileNotFoundError, f"there is no program {tmp_path}/none"),
        ([plain], PermissionError, f"{plain} cannot be run: Permission denied"),
        ([tmp_path], PermissionError, f"{tmp_path} cannot be run: Permission denied"),
        ([lost], FileNotFoundError, f"{lost} cannot be run: its interpreter or loader is missing"),
    ):
        with pytest.raises(kind, match=rf"node 1 \(.*\): {text}"):
            net[1].run(words, cwd="/")
    with pytest.raises(
        FileNotFoundError, match=r"\./lost cannot be run: its interpreter or loader is missing"
    ):
        net[1].run(["./lost"], cwd=tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no program \udcff"):
        net[1].run([b"\xff"], cwd="/")
    with pytest.raises(
        FileNotFoundError,
        match="cannot use the folder /no/folder, where the program was to run: No such file",
    ):
        net[1].run(["true"], cwd="/no/folder")
    with pytest.raises(OSError, match="Argument list too long") as caught:
        net[1].run(["true", "x" * 200_000], cwd="/")
    assert caught.value.errno == errno.E2BIG
    assert net[1].run(["true"], cwd="/").returncode == 0


def test_on_a_terminal_the_same_can_be_started(net: ClientNetwork, tmp_path: Path) -> None:
    for name, text in (("plain", "echo by $1\n"), ("lost", "#!/no/interpreter\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    with net.popen(["./plain", "sh"], cwd=str(tmp_path), terminal=(24, 80)) as program:
        assert program.stdout.read() == b"by sh\r\n"
        assert program.wait() == 0
    with net.popen(["./lost"], cwd=str(tmp_path), terminal=(24, 80)) as program:
        assert b"./lost cannot be run: its interpreter or loader is missing" in program.stdout.read()
        assert program.wait() == 126


def test_a_script_without_a_first_line_is_run_by_sh(net: ClientNetwork, tmp_path: Path) -> None:
    script = tmp_path / "ls"  # not the program of the same name later in PATH
    script.write_text("echo by $1\n")
    script.chmod(0o755)
    assert net[1].run([script, "sh"], cwd="/").stdout == b"by sh\n"
    environment = {"PATH": f"{tmp_path}:/bin:/usr/bin"}
    assert net[1].run(["ls", "sh"], cwd="/", env=environment).stdout == b"by sh\n"


def test_a_lower_priority_is_that_of_all_it_starts_from_the_beginning(net: ClientNetwork) -> None:
    def run(nice: int, words: list[str]) -> str:
        job = prepare(scheduler_of(mesh_of(net)), words, JobOptions(), 2**20, cwd="/", nice=nice)
        captured = CapturedProgram(job, b"", is_text=True)
        job.start()
        return str(captured.outcome(check=True).stdout)

    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert run(7, ["sh", "-c", "nice; nice & wait"]).split() == [str(own + 7)] * 2
    assert run(19, ["nice"]).split() == ["19"]
    assert run(0, ["nice"]).split() == [str(own)]  # so the worker has kept its own
    with pytest.raises(FileNotFoundError, match="there is no program no-such-program"):
        run(1, ["no-such-program"])
