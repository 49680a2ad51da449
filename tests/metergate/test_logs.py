"""Logs go to standard error as it is when they are written."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from metergate.logs import LogSettings, configure


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.root.handlers[:], logging.root.level = handlers, level


def test_a_logger_that_was_used_before_writes_to_todays_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    first = io.StringIO()
    monkeypatch.setattr("sys.stderr", first)
    configure(LogSettings(), "test")
    log = structlog.get_logger("test")
    log.info("one", meter="G-1")
    first.close()
    second = io.StringIO()
    monkeypatch.setattr("sys.stderr", second)
    log.info("two")
    logging.getLogger("library").warning("three")
    assert json.loads(second.getvalue().splitlines()[0])["event"] == "two"
    assert "three" in second.getvalue()
