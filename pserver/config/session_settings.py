"""What a session knows of its server."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self, get_args

from pserver.config.limit_options import SessionLimits
from pserver.config.log_options import DEFAULT_FORM, LogForm


def seed_folder(kept: Path) -> Path:
    """Return the same, for a session; `kept`: see `ServerConfig.kept_folder`."""
    return kept.with_name("login")


@dataclass(frozen=True)
class SessionSettings:
    """What a session needs to know of the server; see `pserver.config.ServerConfig`."""

    auth_file: Path | None  # None: no encryption, no login
    data_port: int
    bind: list[str]  # where the server listens; empty: at all addresses
    login_timeout: float
    proof_timeout: float
    log_file: Path | None
    peer: str
    user: str  # that the client names; empty without encryption
    kept: Path  # see `ServerConfig.kept_folder`
    sessions_path: Path  # of the socket at which the daemon takes sessions back that have lost one
    local_path: Path | None = None  # of the socket for local links; None: there is none
    limits: SessionLimits = field(default_factory=SessionLimits)
    log_format: str = DEFAULT_FORM.format
    log_level: str = DEFAULT_FORM.level
    orphan_timeout: float = 0.0  # seconds for which a session outlives its client; 0: it ends with it
    salt: str = ""  # of the user's verifier, in hexadecimal digits, for a later daemon; empty: there is none
    server_id: str = ""  # which server it is, see `pconnect.protocol.server_proof`
    server_proof: str = ""  # in hexadecimal digits, that it is, for this client; empty without encryption
    refusal: str = ""  # why the client is not let in, once it has proved who it is; empty: it is
    allow_users: list[str] = field(default_factory=list)  # empty: all
    #: The name of the Unix account of `user`, under which the session of a server of root runs; ``None`` for others.
    account: str | None = None
    cmd_port: int | None = None  # ``None``: the client knows it by itself
    advertised: list[tuple[str, int, int]] = field(default_factory=list)  # see `pserver.config.advertised`

    def log_form(self) -> LogForm:
        """Return what the log looks like, and which lines it has."""
        return LogForm(self.log_format, self.log_level)

    def as_json(self) -> dict[str, Any]:
        """Return what JSON can express, for `from_json`."""
        values = {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()
        }
        return values | {"limits": self.limits.as_json()}

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> Self:
        """Return the settings of which `as_json` gave this."""
        paths = {each.name for each in fields(cls) if each.type is Path or Path in get_args(each.type)}
        values: dict[str, Any] = {
            name: Path(value) if name in paths and value is not None else value
            for name, value in settings.items()
        }
        return cls(**values | {"limits": SessionLimits.from_json(settings["limits"])})
