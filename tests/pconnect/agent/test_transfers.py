import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect.agent.transfers import _is_meant
from tests.support.prun import SCRIPT, Prun, prun_user
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Prun]:
    with prun_user(tmp_path_factory.mktemp("prun"), [server]) as user:
        yield user


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def test_files_are_sent_and_fetched(user: Prun, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "run.sh").write_text("#!/bin/sh\npwd; cat deep/in; echo made > deep/out; ls\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "deep" / "in").write_text("given\n")
    (tmp_path / "other").write_text("not sent")
    done = user.run("--send", "run.sh", "--send", "deep/i*", "--fetch", "deep/o*", "./run.sh", cwd=tmp_path)
    folder, *lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr, lines) == (0, b"", ["given", "deep", "run.sh"])
    assert (tmp_path / "deep" / "out").read_text() == "made\n"
    assert folder != str(tmp_path) and not Path(folder).exists()


def test_a_folder_goes_and_what_changes_comes_back(user: Prun, tmp_path: Path) -> None:
    for name in ("changed", "removed", "same"):
        (tmp_path / name).write_text(name)
    before = (tmp_path / "same").stat()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "in").write_text("in")
    script = "cd ..; rm removed; echo more >> changed; echo new > d/new; touch d/in; pwd"
    done = user.run("--sync", "--cd", "d", "sh", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert names(tmp_path) == ["changed", "d/in", "d/new", "same"]
    assert (tmp_path / "changed").read_text() == "changedmore\n"
    after = (tmp_path / "same").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not Path(done.stdout.decode().strip()).exists()


def test_nothing_of_an_earlier_run_is_there(user: Prun, tmp_path: Path) -> None:
    user.run("--sync", "touch", "made", cwd=tmp_path)
    (tmp_path / "made").unlink()
    assert user.run("--sync", "ls", cwd=tmp_path).stdout == b""
    assert names(tmp_path) == []


def test_what_was_changed_here_meanwhile_stays(user: Prun, tmp_path: Path, server: Server) -> None:
    for name in ("both", "only here", "gone there"):
        (tmp_path / name).write_text("old")
    script = 'echo there > both; rm "gone there"; echo ready; read line'
    with user.start("--sync", "sh", "-c", script, cwd=tmp_path) as process:
        assert process.stdout is not None and process.stdin is not None and process.stderr is not None
        process.stdout.readline()
        for name in ("both", "only here", "gone there"):
            (tmp_path / name).write_text("here")
        process.stdin.write(b"go on\n")
        process.stdin.close()
        said = process.stderr.read().decode()
        assert process.wait() == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "both": "here",
        "both.from-127.0.0.1": "there\n",
        "only here": "here",
        "gone there": "here",
    }
    assert said.splitlines() == [
        f"prun: both was changed here, too; the version from {server.host} is saved as both.from-127.0.0.1 next to it",
        f"prun: gone there was removed on {server.host}, but changed here, so it stays",
    ]


def test_links_here_stay_links(user: Prun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    assert user.run("--sync", "true", cwd=tmp_path).returncode == 0
    assert (tmp_path / "link").is_symlink()
    done = user.run("--sync", "sh", "-c", "echo more >> link", cwd=tmp_path)
    assert (tmp_path / "link").is_symlink() and b"link was changed here" in done.stderr
    (tmp_path / "dangling").symlink_to("nowhere")
    done = user.run("--sync", "echo", "ran", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (125, b"") and b"dangling" in done.stderr


def test_what_takes_the_place_of_a_file_there(user: Prun, tmp_path: Path, server: Server) -> None:
    for name in ("a", "linked", "lost", "folder", "mode"):
        (tmp_path / name).write_text(name)
    script = "ln -sf a linked; ln -sf /etc/passwd lost; rm folder; mkdir folder; echo in > folder/x; chmod 700 mode"
    done = user.run("--sync", "sh", "-c", script, cwd=tmp_path)
    remark = f"prun: lost on {server.host} is not a file inside the private folder, so it is not fetched\n"
    assert (done.returncode, done.stderr.decode()) == (0, remark)
    assert names(tmp_path) == ["a", "folder/x", "linked", "lost", "mode"]
    assert [(tmp_path / name).read_text() for name in ("linked", "lost", "folder/x")] == ["a", "lost", "in\n"]
    assert (tmp_path / "mode").stat().st_mode & 0o777 == 0o700


def test_what_has_no_place_here_is_put_beside(user: Prun, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "d").write_text("here")
    script = "echo 1 > out; mkdir d; echo 2 > d/x"
    done = user.run("--fetch", "out", "--fetch", "d", "sh", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 2)
    assert names(tmp_path) == ["d", "d.from-127.0.0.1/x", "out.from-127.0.0.1"]
    assert (tmp_path / "d").read_text() == "here"


def test_a_link_that_was_made_there_is_fetched_as_its_file(user: Prun, tmp_path: Path) -> None:
    done = user.run("--fetch", "out", "sh", "-c", "echo made > real; ln -s real out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert names(tmp_path) == ["out"] and not (tmp_path / "out").is_symlink()
    assert (tmp_path / "out").read_text() == "made\n"


def test_a_folder_of_the_server_is_never_meant(user: Prun, tmp_path: Path) -> None:
    for option in ("--sync", "--send=a", "--fetch=a"):
        for folder in ("/tmp", "..", "x/../../y"):
            done = user.run(option, "--cd", folder, "true", cwd=tmp_path)
            assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
            assert b"private folder; name a folder inside it" in done.stderr


def test_what_is_not_there_is_an_error(user: Prun, tmp_path: Path, server: Server) -> None:
    for words, status, text in [
        (["--send", "missing", "true"], 125, "--send missing: there is no such file here"),
        (["--send", "m*", "true"], 125, "--send m*: there is no such file here"),
        (
            ["--send", "/etc/passwd", "true"],
            125,
            "/etc/passwd: only files below the current folder can be transferred",
        ),
        (
            ["--fetch", "../up", "echo", "ran"],
            125,
            "../up: only files below the current folder can be transferred",
        ),
        (["--fetch", "out", "true"], 125, f"prun: true created no file 'out' on {server.host}\n"),
        (["--fetch", "out", "sh", "-c", "exit 3"], 3, f"prun: sh created no file 'out' on {server.host}\n"),
    ]:
        done = user.run(*words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (status, b""), words
        assert text in done.stderr.decode() and done.stderr.count(b"\n") == 1, words


def test_nothing_that_was_put_beside_is_lost(user: Prun, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for text in ("first", "second", "third"):
        user.run("--fetch", "out", "sh", "-c", f"echo {text} > out", cwd=tmp_path)
    texts = [(tmp_path / f"out.from-127.0.0.1{end}").read_text() for end in ("", ".2", ".3")]
    assert texts == ["first\n", "second\n", "third\n"]


def test_folders_that_are_made_here_are_as_the_users_own(user: Prun, tmp_path: Path) -> None:
    script = f'umask 027; cd {tmp_path}; {SCRIPT} --sync sh -c "mkdir -p a/b; echo text > a/b/c"'
    done = subprocess.run(["sh", "-c", script], env=user.environment, check=True, capture_output=True)
    assert done.stderr == b""
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o750, 0o750]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("*.o", ["a.o"]),
        ("*", ["a.o", "d/b.o", "d/e/c.o", "d/x"]),  # including files in matching folders
        ("*/*.o", ["d/b.o"]),
        ("**/*.o", ["a.o", "d/b.o", "d/e/c.o"]),
        ("d", ["d/b.o", "d/e/c.o", "d/x"]),
        ("d/e", ["d/e/c.o"]),
        ("d/?", ["d/e/c.o", "d/x"]),
        ("./a.o", ["a.o"]),
        (".", ["a.o", "d/b.o", "d/e/c.o", "d/x"]),
    ],
)
def test_patterns_of_what_comes_back(pattern: str, meant: list[str]) -> None:
    made = ["a.o", "d/b.o", "d/e/c.o", "d/x"]
    assert [name for name in made if _is_meant(name, pattern)] == meant


def test_two_at_once_in_one_folder(user: Prun, tmp_path: Path) -> None:
    """Each call fetches the changes of its own program. A file that both changed is kept twice."""
    for name in ("one", "two", "both"):
        (tmp_path / name).write_text("old")
    started = [
        user.start("--sync", "sh", "-c", f"echo ready; read x; echo {name} | tee {name} > both", cwd=tmp_path)
        for name in ("one", "two")
    ]
    with started[0] as first, started[1] as second:
        for process in (first, second):
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        for process in (first, second):
            assert process.communicate(b"go\n", timeout=DEADLINE)[0] == b""
            assert process.returncode == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "one": "one\n",
        "two": "two\n",
        "both": "one\n",
        "both.from-127.0.0.1": "two\n",
    }


@pytest.mark.parametrize("option", ["--sync", "--send=*"])
def test_an_interrupt_ends_what_goes_there_and_leaves_nothing(
    user: Prun, tmp_path: Path, option: str
) -> None:
    there = Path(user.run("--sync", "pwd", cwd=tmp_path).stdout.decode().strip()).parent
    with (tmp_path / "big").open("wb") as file:
        file.truncate(2**32)
    with user.start(option, "true", cwd=tmp_path) as process:
        wait_until(lambda: bool(list(there.glob("*/?*"))), "the first bytes")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == -signal.SIGINT
    assert list(there.iterdir()) == []
    (tmp_path / "big").unlink()
    assert user.run("--sync", "echo", "done", cwd=tmp_path).stdout == b"done\n"


def test_after_an_interrupt_nothing_is_changed_here(user: Prun, tmp_path: Path) -> None:
    for name in ("changed", "removed"):
        (tmp_path / name).write_text("old")
    there = Path(user.run("--sync", "pwd", cwd=tmp_path).stdout.decode().strip()).parent
    with user.start(
        "--sync", "sh", "-c", "echo new > changed; rm removed; truncate -s 4G big", cwd=tmp_path
    ) as process:
        wait_until(lambda: bool(list(tmp_path.glob(".prun-*/*/?*"))), "the first bytes")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == -signal.SIGINT
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "changed": "old",
        "removed": "old",
    }
    assert list(there.iterdir()) == []


def test_more_than_the_disk_there_has_room_for(user: Prun, tmp_path: Path, server: Server) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(2**43)
    done = user.run("--send", "big", "true", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (125, b"", 1)
    assert f"prun: {server.host}: [Errno 28] the transfer needs {2**43} bytes".encode() in done.stderr
    (tmp_path / "big").unlink()
    assert user.run("--sync", "echo", "done", cwd=tmp_path).stdout == b"done\n"
