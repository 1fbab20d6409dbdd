"""The address of a server's status page, and its token."""

from pathlib import Path

import pytest

from pserver.admin.control import check_start
from pserver.admin.options import CommandParser, add_options, config_of, start_options
from pserver.admin.settings import resolve
from pserver.config.page_options import Address, parse_address, read_token
from pserver.config.server_config import ServerConfig
from srp_tools.errors import ConfigurationError, CredentialError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", Address()),
        ("8080", Address("127.0.0.1", 8080)),
        ("localhost:8080", Address("127.0.0.1", 8080)),
        ("10.0.0.1", Address("10.0.0.1")),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("::1", Address("::1")),
        ("[::1]:80", Address("::1", 80)),
    ],
)
def test_an_address(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["lab", "lab:80", "127.0.0.1:x", "127.0.0.1:65536", "[::1", "[]:80", "1.2.3:4", "-1"]
)
def test_no_address(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not an address for a page: give \[ADDRESS:\]PORT"):
        parse_address(text)
    with pytest.raises(ConfigurationError, match="--status-page"):
        ServerConfig(status_page=text)


def test_it_is_a_setting_in_file_and_environment(tmp_path: Path) -> None:
    path = tmp_path / "pserver.toml"
    path.write_text('status_page = "127.0.0.1:8080"\n')
    assert resolve({}, {}, path).config.status_page == "127.0.0.1:8080"
    assert resolve({}, {"PSERVER_STATUS_PAGE": ""}, has_default_file=False).config.status_page == ""


def test_on_the_command_line_it_may_be_without_an_address() -> None:
    parser = CommandParser()
    add_options(parser)
    found = [
        config_of(parser.parse_args(line.split())).status_page
        for line in ("", "--status-page", "--status-page 8080", "--status-page=[::1]:80 --slots 1")
    ]
    assert found == [None, "", "8080", "[::1]:80"]
    assert "--status-page=" in start_options(ServerConfig(status_page=""))


def test_without_its_packages_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pserver.admin.control.PACKAGES", ("no_such_package",))
    with pytest.raises(
        ConfigurationError, match=r"no_such_package is not installed; run pip install 'pserver\[page\]'"
    ):
        check_start(ServerConfig(status_page="", allow_root=True))


def test_a_server_with_accounts_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ConfigurationError, match="the page would run as root"):
        check_start(ServerConfig(status_page=""))


def test_a_token_in_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    path = folder / "token"
    path.write_text("0123456789abcdef\n")
    path.chmod(0o644)
    with pytest.raises(CredentialError, match="is open to others"):
        read_token(path)
    with pytest.raises(CredentialError, match="is open to others"):
        check_start(ServerConfig(status_page="", status_page_token=str(path), allow_root=True))
    path.chmod(0o600)
    assert read_token(path) == "0123456789abcdef"
    for bad in ("short", "with space in it all", "x" * 2000, "ünicode-0123456789"):
        path.write_text(bad)
        with pytest.raises((ConfigurationError, CredentialError)):
            read_token(path)
