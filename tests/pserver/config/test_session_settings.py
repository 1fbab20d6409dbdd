from pathlib import Path

from pserver.config.limit_options import SessionLimits
from pserver.config.session_settings import SessionSettings, seed_folder


def test_what_was_written_as_json_is_the_same() -> None:
    settings = SessionSettings(
        auth_file=Path("/etc/users"),
        data_port=12501,
        bind=[],
        login_timeout=20.0,
        proof_timeout=5.0,
        log_file=None,
        peer="10.0.0.1 port 1",
        user="alice",
        kept=Path("/spool/default/kept"),
        sessions_path=Path("/run/default.sessions"),
        allow_users=["alice"],
        limits=SessionLimits(memory=2**30, cpu=1.5, cgroup="/a"),
    )
    assert SessionSettings.from_json(settings.as_json()) == settings


def test_the_seed_is_beside_the_results() -> None:
    assert seed_folder(Path("/spool/default/kept")) == Path("/spool/default/login")
