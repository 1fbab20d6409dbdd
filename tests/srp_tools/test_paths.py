"""Where configuration lies."""

from pathlib import Path

import platformdirs

from srp_tools.paths import client_file, config_folder, server_file, server_folder


def test_both_parts_are_below_the_configuration_folder(tmp_path: Path) -> None:
    assert config_folder() == platformdirs.user_config_path("pserver", appauthor=False)
    assert client_file() == config_folder() / "client" / "credentials"
    assert server_file() == config_folder() / "server" / "tpasswd"
    assert client_file(tmp_path) == tmp_path / "client" / "credentials"
    assert server_folder(tmp_path) == tmp_path / "server"
