"""The file with the address of a page."""

import json
import os
import stat
from pathlib import Path

import pytest

from pserver.page.address_file import address_shown, shown_address
from pserver.system.runtime_dir import OWN_VARIABLE, run_time_folder


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OWN_VARIABLE, str(tmp_path))


def test_it_is_there_while_the_page_is_and_its_owners_alone() -> None:
    assert shown_address("lab") is None
    with address_shown("lab", "http://x/?token=y"):
        path = run_time_folder() / "lab.page"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert shown_address("lab") == shown_address("lab", run_time_folder()) == "http://x/?token=y"
    assert shown_address("lab") is None and not path.exists()


def test_that_of_a_process_that_was_killed_does_not_count() -> None:
    path = run_time_folder() / "lab.page"
    told: object
    for told in ({"url": "http://x", "pid": os.getpid(), "began": 1}, {"url": "http://x"}, []):
        path.write_text(json.dumps(told))
        assert shown_address("lab") is None
    path.write_text("no JSON")
    assert shown_address("lab") is None
