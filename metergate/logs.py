"""Logs: JSON lines on standard error, one event each, with key=value pairs; normal life is quiet."""

from __future__ import annotations

import io
import logging
import sys
from typing import Literal, TextIO, cast

import structlog
from pydantic import Field

from metering.settings import SettingsModel

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogSettings(SettingsModel):
    """How much is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important level that is written: debug, info, warning or error."
    )
    form: Literal["json", "text"] = Field(
        "json", description="json writes one JSON object a line for machines, text the same for people."
    )


class _StandardError(io.TextIOBase):
    """Whatever standard error is at the moment of writing: loggers outlive a stream that was put in its place."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure(settings: LogSettings, service: str) -> None:
    """Set up structlog for this process; libraries' own loggers come through the same way."""
    level = LEVELS[settings.level]
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if settings.form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    stream = cast(TextIO, _StandardError())
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(level=max(level, logging.WARNING), stream=stream, force=True)
