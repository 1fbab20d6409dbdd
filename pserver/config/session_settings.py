"""The settings that a server passes to a session."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self, get_args

from pserver.config.limit_options import SessionLimits
from pserver.config.log_options import DEFAULT_FORM, LogForm


def seed_folder(kept: Path) -> Path:
    """Return the folder of `ServerConfig.seed_folder`; `kept`: see `ServerConfig.kept_folder`."""
    return kept.with_name("login")


@dataclass(frozen=True)
class SessionSettings:
    """The facts about the server that a session needs; see `pserver.config.ServerConfig`."""

    auth_file: Path | None  # None: no encryption, no login
    data_port: int
    bind: list[str]  # the addresses that the server listens on; empty: all
    login_timeout: float
    proof_timeout: float
    log_file: Path | None
    peer: str
    user: str  # as named by the client; empty without encryption
    kept: Path  # see `ServerConfig.kept_folder`
    sessions_path: Path  # of the socket where sessions that lost their daemon register with the new one
    local_path: Path | None = None  # of the socket for local links; None: no local links
    limits: SessionLimits = field(default_factory=SessionLimits)
    log_format: str = DEFAULT_FORM.format
    log_level: str = DEFAULT_FORM.level
    orphan_timeout: float = 0.0  # seconds to wait for a client that has vanished; 0: end with the client
    salt: str = ""  # of the user's verifier, in hexadecimal digits, for a later daemon; empty: no verifier
    server_id: str = ""  # identifies the server, see `pconnect.protocol.server_proof`
    server_proof: str = ""  # of `server_id` for this client, in hexadecimal digits; empty without encryption
    refusal: str = ""  # why to refuse the client after it has proved its password; empty: accept it
    allow_users: list[str] = field(default_factory=list)  # empty: all
    #: The Unix account of `user`, under which the session runs; ``None``: the account of the server.
    account: str | None = None
    cmd_port: int | None = None  # ``None``: the client knows the port
    advertised: list[tuple[str, int, int]] = field(default_factory=list)  # see `pserver.config.advertised`

    def log_form(self) -> LogForm:
        """Return the format of log lines and the lowest level to write."""
        return LogForm(self.log_format, self.log_level)

    def as_json(self) -> dict[str, Any]:
        """Return the settings as values that JSON can express, for `from_json`."""
        values = {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()
        }
        return values | {"limits": self.limits.as_json()}

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> Self:
        """Make settings from the result of `as_json`."""
        paths = {each.name for each in fields(cls) if each.type is Path or Path in get_args(each.type)}
        values: dict[str, Any] = {
            name: Path(value) if name in paths and value is not None else value
            for name, value in settings.items()
        }
        return cls(**values | {"limits": SessionLimits.from_json(settings["limits"])})
