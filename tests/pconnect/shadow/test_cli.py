import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pconnect.shadow.cli import main, why_unsupported
from pconnect.shadow.in_place import InPlace, State
from tests.support.shadowing import (
    LIMIT,
    Recorder,
    clean_environment,
    make_program,
    names_in,
    output_of,
    pshadow,
    tree,
)


@pytest.fixture
def prun(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return make_program(tmp_path / "real" / "gcc")


@pytest.fixture
def user(tmp_path: Path, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up a user with a private home folder and one gcc in PATH."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", f"{real.parent}:/usr/bin:/bin")


pytestmark = pytest.mark.usefixtures("user")


def test_a_shell_evaluates_what_is_printed(tmp_path: Path, real: Path, prun: Recorder) -> None:
    """The example in the help text: a call finds the program, then its stand-in, and finally the program again."""
    words = f"{sys.executable} -m pconnect.shadow.cli"
    script = f"""
set -e
gcc -c one
eval "$({words} on --export --prun {prun.path} gcc)"
gcc -c two
eval "$({words} on --export --prun {prun.path} gcc)"
gcc -c three
{words} off gcc >/dev/null
hash -r
gcc -c four
"""
    environment = {"XDG_DATA_HOME": str(tmp_path / "data"), "PATH": f"{real.parent}:/usr/bin:/bin"}
    shown = output_of(["sh", "-c", script], environment)
    assert shown == [b"real", b"-c", b"one", b"real", b"-c", b"four"]
    assert prun.calls() == [b"--shadow", os.fsencode(real), b"-c", b"three"]


def test_on_says_what_to_do(
    tmp_path: Path, real: Path, prun: Recorder, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = tmp_path / "data" / "pserver" / "shadow" / "bin"
    assert main(["on", "--prun", str(prun.path), "gcc"]) == 0
    shown = capsys.readouterr().out
    assert f"{folder}/gcc stands in for {real}" in shown
    assert f'export PATH={folder}:"$PATH"' in shown
    assert main(["status"]) == 1
    assert f"PATH finds {real} first; run: export PATH=" in capsys.readouterr().out
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert main(["on", "--prun", str(prun.path), "gcc"]) == 0
    assert "They come first in PATH" in capsys.readouterr().out
    assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "gcc"
    assert main(["off"]) == 0
    assert "gcc: stand-in removed" in capsys.readouterr().out
    assert main(["off"]) == 0
    assert main(["off", "gcc"]) == 0
    assert main(["status"]) == 0
    assert main(["status", "gcc"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"there are no stand-ins in {folder}", f"gcc: has no stand-in in {folder}", "there are no stand-ins",
        "there are no stand-ins for gcc",
    ]  # fmt: skip


def test_the_name_that_make_uses_is_not_forgotten(
    real: Path, prun: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    hint = "cc is not shadowed; make uses it unless the Makefile sets CC: pshadow on cc gcc"
    make_program(real.with_name("cc"))  # another compiler
    assert main(["on", "--prun", str(prun.path), "gcc"]) == 0
    assert "cc is not shadowed" not in capsys.readouterr().out
    real.with_name("cc").unlink()
    real.with_name("cc").symlink_to(real)
    assert main(["on", "--prun", str(prun.path), "gcc"]) == 0
    assert hint in capsys.readouterr().out.splitlines()
    assert main(["on", "--export", "--prun", str(prun.path), "gcc"]) == 0
    told = capsys.readouterr()
    assert (hint in told.out, told.err) == (False, f"{hint}\n")
    assert main(["on", "--prun", str(prun.path), "cc", "gcc"]) == 0
    assert "cc is not shadowed" not in capsys.readouterr().out


def test_paths_are_printed_byte_for_byte(tmp_path: Path, prun: Recorder) -> None:
    folder = tmp_path / "na\udcefve"
    words: list[str | Path] = [
        sys.executable,
        "-m",
        "pconnect.shadow.cli",
        "on",
        "--export",
        "--prun",
        prun.path,
        "--dir",
        folder,
        "gcc",
    ]
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    done = subprocess.run(words, check=True, capture_output=True, timeout=LIMIT, env=environment)
    assert done.stdout == b"export PATH='%b':\"$PATH\"\n" % os.fsencode(folder)


def test_a_compiler_cache_is_named(
    tmp_path: Path, prun: Recorder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "gcc").symlink_to(make_program(tmp_path / "ccache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'cache'}:{os.environ['PATH']}")
    assert main(["on", "--prun", str(prun.path), "gcc"]) == 0
    assert f"{tmp_path}/cache/gcc is ccache; to keep using it" in capsys.readouterr().out


def test_in_place_and_back(
    tmp_path: Path, real: Path, prun: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    make_program(tmp_path / "real" / "g++")
    before = tree(tmp_path / "real")
    assert main(["on", "--in-place", "--prun", str(prun.path), "gcc", "g++"]) == 0
    assert f"{real} is now a stand-in for {real}_" in capsys.readouterr().out
    assert main(["status"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["PROGRAM", "g++", "gcc"]
    assert output_of([real, "-c", "a b"]) == []
    assert prun.calls() == [b"--shadow", os.fsencode(real), b"-c", b"a b"]
    assert output_of([real, "a.o"]) == output_of([real, "a.o"], {"PSERVER_SHADOW": "x"}) == [b"real", b"a.o"]
    assert main(["off", "--in-place", "gcc"]) == 0
    assert main(["off", "--in-place"]) == 0
    assert main(["off", "--in-place"]) == 0
    assert main(["off", "--in-place", "gcc"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"gcc: {real} is restored", f"g++: {real.parent}/g++ is restored", "there are no stand-ins in place",
        "gcc: is not shadowed in place in a folder of PATH",
    ]  # fmt: skip
    assert tree(tmp_path / "real") == before


@pytest.mark.parametrize("given", ["path", "--dir"])
def test_programs_outside_of_path(tmp_path: Path, prun: Recorder, given: str) -> None:
    program = make_program(tmp_path / "other" / "clang")
    words = [str(program)] if given == "path" else ["--dir", str(program.parent), "clang"]
    assert main(["on", "--in-place", "--prun", str(prun.path), *words]) == 0
    assert InPlace(str(program.parent)).state("clang") is State.ON
    assert main(["status", "--dir", str(program.parent)]) == 0
    assert main(["off", "--in-place", *words]) == 0
    assert main(["off", "--in-place", "--dir", str(program.parent)]) == 0
    assert names_in(program.parent) == ["clang"]


def test_one_that_is_lost_keeps_no_other_from_its_place(
    real: Path, prun: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    make_program(real.parent / "g++")
    main(["on", "--in-place", "--prun", str(prun.path), "gcc", "g++"])
    (real.parent / "g++_").unlink()
    assert main(["off", "--in-place"]) == 1
    assert "g++: the saved program is gone" in capsys.readouterr().err
    assert InPlace(str(real.parent)).state("gcc") is State.OFF


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["on", "nosuch"], "there is no program nosuch in PATH"),
        (["on", "a/b"], "'a/b' is not the name of a program"),
        (["on", "prun"], "prun cannot be shadowed"),
        (["on", "--dir", "a:b", "gcc"], "its name contains a colon"),
        (["on", "--in-place", "--dir", "/bin", "/bin/cat"], "give only one of them"),
        (["on", "--in-place", "gcc", "/nonexistent/x"], "run pshadow once for each folder"),
        (["on", "--in-place", "sh"], "cannot be shadowed in place"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_is_refused(
    words: list[str], text: str, prun: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([words[0], "--prun", str(prun.path), *words[1:]]) == 1
    assert text in capsys.readouterr().err


@pytest.mark.slow
def test_two_at_once_take_turns(real: Path, prun: Recorder) -> None:
    names = [f"gcc-{number}" for number in range(4)]
    for name in names:
        make_program(real.parent / name)
    before = tree(real.parent)
    started = []
    descriptor = os.open(real.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    for word in (["on", "--prun", str(prun.path)], ["on", "--prun", str(prun.path)], ["off"]):
        for name in names:
            command = [
                sys.executable,
                "-m",
                "pconnect.shadow.cli",
                *word,
                "--in-place",
                str(real.parent / name),
            ]
            started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    os.close(descriptor)
    assert [process.wait(LIMIT) for process in started] == [0] * len(started)
    assert pshadow("off", "--in-place", "--dir", real.parent).returncode == 0
    assert tree(real.parent) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("in_place", [[], ["--in-place"]], ids=["folder", "in place"])
@pytest.mark.parametrize(
    ("trouble", "text"), [("ro", "Read-only file system"), ("full", "No space left on device")]
)
def test_where_nothing_can_be_written_nothing_is_changed(
    tmp_path: Path, prun: Recorder, in_place: list[str], trouble: str, text: str
) -> None:
    """In a private mount namespace: a file system that is full or read-only."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    own = "gcc" if in_place else "other"
    command = f"{sys.executable} -m pconnect.shadow.cli on {' '.join(in_place)} --prun {prun.path} --dir {folder} gcc"
    script = f"""
set -e
mount -t tmpfs -o size=16k,mode=755 none {folder}
cp {tmp_path}/real/gcc {folder}/{own}
if [ {trouble} = ro ]; then mount -o remount,ro {folder}; else
    cat /dev/zero >{folder}/filling 2>/dev/null || true
fi
ls -laiR --time-style=full-iso {folder} | grep -v ' [.]*$' >{tmp_path}/before
if {command} 2>{tmp_path}/said; then exit 1; fi
ls -laiR --time-style=full-iso {folder} | grep -v ' [.]*$' >{tmp_path}/after
"""
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], check=True, timeout=LIMIT, env=clean_environment()
    )
    assert (tmp_path / "said").read_text().startswith(f"pshadow: cannot change {folder}: {text}; ")
    assert (tmp_path / "after").read_text() == (tmp_path / "before").read_text()


@pytest.mark.parametrize("platform", ["win32", "cygwin", "darwin", "freebsd14"])
def test_other_platforms_are_named(platform: str) -> None:
    assert why_unsupported("linux") == ""
    name = {"win32": "Windows", "cygwin": "Windows", "darwin": "macOS"}.get(platform, platform)
    assert why_unsupported(platform) == f"pshadow is not supported on {name}: it needs Linux, like prun"


def test_on_another_platform_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert main(["status"]) == 1
    assert "not supported on macOS" in capsys.readouterr().err


def test_the_help_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["on"], ["off"], ["status"]):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        assert len(capsys.readouterr().out.splitlines()) <= 24
