"""Logs are events with fields, on standard error: one JSON object a line, or coloured for reading.

Our own events do not go through the standard library's logging, which would cost more than handling a record does.
"""

import logging
import sys
from contextlib import suppress
from typing import Literal, TextIO

import structlog


class _Lines:
    """Where an event ends: a line on the stream. Like the standard library's, it never fails who logs."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self.name = name

    def write(self, line: str) -> None:
        with suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = write


def configure_logging(
    level: str = "info", style: Literal["json", "console"] = "json", stream: TextIO | None = None
) -> None:
    """Set up structlog, and the standard library's logging (aiokafka) to come out the same way."""
    lines = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # No locals in tracebacks: they hold passwords sooner or later.
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if style == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=lines.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=28
            )
        ]
    )
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # aiokafka logs an error for every request it retries, ten a second; our own events say what matters.
    logging.getLogger("aiokafka").setLevel(logging.INFO if level == "debug" else logging.CRITICAL)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda name="moorage": _Lines(lines, name),
        cache_logger_on_first_use=True,
    )
