import pytest

from pserver.config.duty_options import DutyOptions
from srp_tools.errors import ConfigurationError


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_sessions": -1}, "--max-sessions -1: give 0 or more; 0 sets no limit"),
        ({"max_sessions_per_user": -2}, "--max-sessions-per-user -2: give 0 or more; 0 sets no limit"),
        ({"max_sessions_per_user": 1, "use_tls": False}, "--max-sessions-per-user and --no-tls: without TLS"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DutyOptions(**options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(text)
