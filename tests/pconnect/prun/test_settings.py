from pathlib import Path

import pytest

from pconnect.prun.settings import Explained, Settings, rules_file


def test_nothing_is_set_at_first() -> None:
    assert Explained() == Explained(Settings(), {})


def test_the_rules_lie_beside_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert rules_file() == tmp_path / "pserver" / "client" / "prun.toml"


def test_what_comes_later_goes_before() -> None:
    explained = Explained().changed({"nice": 1, "here": True}, "built in").changed({"nice": 2}, "--nice")
    assert explained == Explained(Settings(nice=2, here=True), {"nice": "--nice", "here": "built in"})
