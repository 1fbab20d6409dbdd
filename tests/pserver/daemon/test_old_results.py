import time
from pathlib import Path
from typing import Any

from pserver.config.server_config import ServerConfig
from pserver.daemon.old_results import OldResults


def test_they_are_removed_at_once_and_then_every_hour(tmp_path: Path) -> None:
    asked: list[object] = []
    config = ServerConfig(name="here", spool_dir=tmp_path, keep_results=2.0, log_format="json", debug=True)
    results = OldResults(lambda: config, asked.append)
    seconds = results.step()
    log = {"file": None, "format": "json", "level": "debug"}
    assert asked == [{"sweep": f"{tmp_path}/here/kept", "days": 2.0, "log": log}]
    assert 3500 < seconds < 3601
    results.step()
    assert len(asked) == 1


def test_all_of_them_and_folders_are_removed_at_the_start_if_that_is_wanted(tmp_path: Path) -> None:
    asked: list[Any] = []
    config = ServerConfig(name="here", spool_dir=tmp_path, keep_results=2.0, clean=True)
    began = time.time()
    OldResults(lambda: config, asked.append).step()
    clean, swept = asked
    assert clean == {"clean": "here", "before": clean["before"], "log": swept["log"]}
    assert began <= clean["before"] <= time.time()
    assert swept["days"] < 0
