import pytest

from pserver.command import main


def test_it_is_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "usage: pserver" in capsys.readouterr().out


def test_elsewhere_it_says_that_it_needs_linux(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert main(["start"]) == 69
    assert capsys.readouterr().err.startswith("pserver: servers run on Linux only, and this is darwin; ")
