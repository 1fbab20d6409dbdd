import pytest

from pserver.config.duty_options import DutyOptions
from srp_tools.errors import ConfigurationError


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_sessions": -1}, "--max-sessions -1: give 0 or more; 0 sets no limit"),
        ({"max_sessions_per_user": -2}, "--max-sessions-per-user -2: give 0 or more; 0 sets no limit"),
        (
            {"max_sessions_per_user": 1, "use_tls": False},
            "--max-sessions-per-user and --no-tls exclude each other: ",
        ),
        ({"service_start": "17"}, "--service-start: '17' is not a time of day: give HH:MM"),
        ({"service_start": "17:00"}, "--service-start 17:00: give --service-stop or --service-end, too"),
        ({"service_stop": "6:00"}, "--service-stop 06:00: give --service-start, too"),
        ({"service_end": "08:00"}, "--service-end 08:00: give --service-start, too"),
        (
            {"service_start": "17:00", "service_stop": "17:00"},
            "--service-start and --service-stop are both 17:00: they must differ",
        ),
        (
            {"service_start": "17:00", "service_stop": "06:00", "service_end": "17:00"},
            "--service-start and --service-end are both 17:00: they must differ",
        ),
        (
            {"service_start": "17:00", "service_stop": "06:00", "service_end": "05:59"},
            "--service-end 05:59: after --service-start 17:00, it comes before --service-stop 06:00",
        ),
        (
            {"service_start": "09:00", "service_stop": "17:00", "service_end": "08:00"},
            "",
        ),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], text: str) -> None:
    if not text:
        DutyOptions(**options)  # type: ignore[arg-type]
        return
    with pytest.raises(ConfigurationError) as caught:
        DutyOptions(**options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(text)
