"""joblib is imported only on demand, and knows the backend as soon as a network exists."""

import subprocess
import sys

import joblib
import pytest
from joblib.parallel import BACKENDS

from pconnect import register_joblib_backend
from pconnect.joblib.backend import Backend
from pconnect.joblib.register import register_if_imported


def test_joblib_is_not_imported() -> None:
    code = (
        "import sys, pconnect.views.job_views, pconnect.joblib.register as names; names.register_if_imported(); "
        "print('joblib' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


@pytest.mark.parametrize("register", [register_if_imported, register_joblib_backend])
def test_the_backend_name_is_registered(register: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(BACKENDS, "pserver", raising=False)
    with pytest.raises(ValueError, match="Invalid backend: pserver"):
        joblib.parallel_config("pserver")
    assert callable(register)
    register()
    with joblib.parallel_config("pserver", time_limit=5.0) as config:
        assert isinstance(config["backend"], Backend)
