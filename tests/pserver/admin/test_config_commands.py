"""The configuration from an administrator's view: written, shown, and used by real servers."""

from pathlib import Path
from typing import Any

import pytest

from pserver import pserver
from pserver.admin.settings import default_file
from pserver.cli import main
from pserver.ctl.live_status import live_server
from pserver.system.pidfile import find_server
from tests.support.places import OPTIONS

pytestmark = pytest.mark.usefixtures("places")


def write(text: str) -> Path:
    path = default_file()
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_server_has_what_the_file_and_the_environment_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write('name = "gpu"\nslots = 3\ncmd_port = 1\n')
    monkeypatch.setenv("PSERVER_SLOTS", "2")
    assert main(["start", *OPTIONS]) == 0
    assert capsys.readouterr().out.endswith("Stop it with: pserver stop --name gpu\n")
    server = live_server("gpu")
    assert server is not None
    status: Any = server.status
    assert status["slots"]["total"] == 2
    assert status["cmd_port"] != 1  # the command line overrides the file
    path.unlink()
    assert main(["stop"]) == 3
    write('name = "gpu"\n')
    assert main(["stop"]) == 0


def test_the_function_takes_them_too() -> None:
    write('name = "gpu"\nslots = 1\nbind = "127.0.0.1"\nallow_root = true\n')
    status: Any = pserver(cmd_port=0, data_port=0)
    assert (status["name"], status["slots"]["total"]) == ("gpu", 1)
    assert pserver("status") is not None
    assert pserver("kill")


def test_what_was_saved_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "saved.toml"
    options = ["--name=one", "--slots=2", "--log-size=1m", f"--save-config={saved}"]
    assert main(["start", *OPTIONS, *options]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"Wrote {saved}.\nLeft out settings that fit one machine only: name, bind.\n"
    assert saved.stat().st_mode & 0o777 == 0o600
    assert find_server("one") is None
    assert main(["show-config", f"--config={saved}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["log_size", "1048576", f"{saved},", "line", "3"] in lines
    assert ["slots", "2", f"{saved},", "line", "5"] in lines
    assert ["max_failures", "3", "default"] in lines
    assert main(["start", f"--config={saved}", "--bind=127.0.0.1", "--save-config"]) == 0
    assert capsys.readouterr().out == saved.read_text()
    assert main(["start", f"--config={saved}", "--bind=127.0.0.1"]) == 0
    assert main(["stop"]) == 0


def test_without_a_file_it_says_where_it_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show-config"]) == 0
    assert capsys.readouterr().out.endswith(
        f"There is no configuration file; it would be {default_file()}.\n"
    )


def test_with_a_wrong_file_a_named_server_can_still_be_ended(capsys: pytest.CaptureFixture[str]) -> None:
    path = write("slot = 3\n")
    for words in (["start", *OPTIONS], ["show-config"], ["stop"]):
        assert main(words) == 1
        assert f"{path}, line 1: there is no setting 'slot' (did you mean slots?)" in capsys.readouterr().err
    assert main(["stop", "--name=one"]) == 3
