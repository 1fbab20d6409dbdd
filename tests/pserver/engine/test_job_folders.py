"""The private folders of jobs, and the files that they send back."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pconnect import JobLostError, RemoteError
from pconnect.errors import ConfigurationError, MessageTooLargeError
from pconnect.jobs.worker_api import job_folder, side
from pconnect.views.network_views import ClientNetwork
from pserver.engine.job_folders import JobFolders
from pserver.services.files import SessionFiles
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobFolders:
    """Act as a worker that runs job 7."""
    made = JobFolders(SessionFiles(tmp_path, 100), 150)
    monkeypatch.setattr(side, "number", 7)
    monkeypatch.setattr(side, "make_folder", made.make)
    return made


def test_a_folder_is_private_and_goes_with_its_job(folders: JobFolders, tmp_path: Path) -> None:
    folder = job_folder()
    assert folder == job_folder() == tmp_path / "jobs" / "7"
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    (folder / "input").write_text("not sent")
    (folder / "outputs" / "deep").mkdir()
    (folder / "outputs" / "deep" / "x").write_text("12")
    (folder / "outputs" / "deep" / "x").chmod(0o750)
    taken = folders.take_outputs()
    assert taken is not None
    (mode, data) = taken.pop("deep/x")
    assert (mode, bytes(data)) == (0o750, b"12") and not taken
    assert not folder.exists()
    assert folders.take_outputs() is None


def test_a_job_without_outputs_sends_none(folders: JobFolders) -> None:
    folder = job_folder()
    assert folders.take_outputs() is None
    assert not folder.exists()


def test_what_a_dead_worker_left_of_the_same_job_is_not_seen(folders: JobFolders, tmp_path: Path) -> None:
    (tmp_path / "jobs" / "7" / "outputs").mkdir(parents=True)
    (tmp_path / "jobs" / "7" / "outputs" / "old").touch()
    job_folder()
    assert folders.take_outputs() is None


def test_a_folder_with_a_name_is_kept(folders: JobFolders, tmp_path: Path) -> None:
    folder = job_folder("run 1")
    assert folder == job_folder() == job_folder("run 1") == tmp_path / "files" / "run 1"
    with pytest.raises(ConfigurationError, match="this job already has a folder"):
        job_folder("run 2")
    (folder / "outputs" / "x").write_text("1")
    assert list(folders.take_outputs() or ()) == ["x"]
    assert (folder / "outputs" / "x").exists()
    with pytest.raises(ConfigurationError, match="leads out of the session's folder"):
        job_folder("../elsewhere")


def test_limits_are_checked_before_anything_is_read(folders: JobFolders) -> None:
    (job_folder() / "outputs" / "x").write_bytes(bytes(101))
    with pytest.raises(ConfigurationError, match="101 bytes"):
        folders.take_outputs()
    for name in "ab":
        (job_folder() / "outputs" / name).write_bytes(bytes(80))
    with pytest.raises(MessageTooLargeError):
        folders.take_outputs()
    assert folders.take_outputs() is None


def test_outside_of_jobs_there_is_none() -> None:
    with pytest.raises(ConfigurationError, match="functions that run as jobs"):
        job_folder()


# --- with real workers ---


@pytest.fixture(scope="module")
def net(one_slot: Server) -> Iterator[ClientNetwork]:
    with one_slot.connect() as network:
        yield network


def write(name: str, text: str) -> str:
    folder = job_folder()
    (folder / "outputs" / name).write_text(text)
    return str(folder)


def test_files_come_back_with_a_job(net: ClientNetwork, tmp_path: Path) -> None:
    jobs = [net.submit(write, f"{k}.txt", f"text {k}") for k in range(20)]
    folders = {job.result(DEADLINE) for job in jobs}
    assert len(folders) == 20
    assert [dict(job.outputs) for job in jobs] == [{f"{k}.txt": f"text {k}".encode()} for k in range(20)]
    assert not any(Path(folder).exists() for folder in folders)  # the server is on this machine
    (path,) = jobs[3].outputs.save(tmp_path / "results")
    assert path == tmp_path / "results" / "3.txt" and path.read_text() == "text 3"


def test_also_large_ones_beside_an_array(net: ClientNetwork) -> None:
    def work() -> object:
        array = np.arange(1e6)
        array.tofile(job_folder() / "outputs" / "array")
        print("done")
        return array

    job = net.submit(work)
    assert job.outputs == {}
    assert job.result(DEADLINE).tobytes() == job.outputs["array"] == np.arange(1e6).tobytes()
    assert job.stdout == "done\n"


def test_also_with_a_job_that_fails(net: ClientNetwork) -> None:
    def work() -> None:
        (job_folder() / "outputs" / "log").write_text("so far")
        raise RuntimeError("and no further")

    job = net.submit(work)
    with pytest.raises(RemoteError, match="and no further"):
        job.result(DEADLINE)
    assert dict(job.outputs) == {"log": b"so far"}


def test_what_cannot_be_sent_is_told(net: ClientNetwork) -> None:
    with pytest.raises(RemoteError, match="neither a file nor a folder"):
        net.submit(lambda: os.mkfifo(job_folder() / "outputs" / "x")).result(DEADLINE)
    assert net.submit(abs, -1).result(DEADLINE) == 1


def test_a_folder_that_is_kept_can_be_fetched(net: ClientNetwork, tmp_path: Path) -> None:
    net.submit(lambda: (job_folder("kept") / "notes").write_text("a note")).result(DEADLINE)
    net[1].get("kept", tmp_path / "kept")
    assert (tmp_path / "kept" / "notes").read_text() == "a note"


def test_a_job_that_was_lost_begins_again_with_an_empty_folder(net: ClientNetwork, tmp_path: Path) -> None:
    def work() -> list[str]:
        before = [path.name for path in (job_folder() / "outputs").iterdir()]
        (job_folder() / "outputs" / "x").touch()
        if not (tmp_path / "mark").exists():
            (tmp_path / "mark").touch()
            os.kill(os.getpid(), 9)
        return before

    job = net.executor(retries=1).submit(work)
    assert job.result(DEADLINE) == []
    assert dict(job.outputs) == {"x": b""} and job.losses == 1
    (tmp_path / "mark").unlink()
    lost = net.submit(work)
    with pytest.raises(JobLostError):
        lost.result(DEADLINE)
    assert not lost.outputs


@pytest.mark.slow
def test_a_deep_tree_goes_as_well(net: ClientNetwork) -> None:
    def work() -> str:
        folder = job_folder()
        os.chdir(folder)
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        os.chdir("/")
        return str(folder)

    folder = net.submit(work).result(DEADLINE)
    wait_until(lambda: not Path(folder).exists(), "the folder to be removed")
