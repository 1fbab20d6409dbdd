"""The contents of warnings and log records are plain values of limited size."""

import logging

from pserver.display.contents import log_contents, warning_contents


def test_long_texts_are_cut_and_say_so() -> None:
    content = log_contents(
        logging.LogRecord("n" * 5000, logging.WARNING, "p" * 5000, 1, "é" * 50_000, (), None)
    )
    assert content["message"].endswith("é ... (cut from 100000 bytes)")
    assert len(content["name"]) == len(content["pathname"]) == 1024
    assert sum(len(str(item).encode()) for item in content.values()) < 2**16


def test_a_warning_knows_its_module_and_line() -> None:
    content = warning_contents("careful", UserWarning, __file__, 1)
    assert (content["module"], content["lineno"]) == (__name__, 1)
    assert content["line"].startswith('"""The contents of warnings')
