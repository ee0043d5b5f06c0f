"""Who did what when, kept only when somebody will read it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tests.faults.process import current

LOGGERS = ("broker", "adapters")


class Trace:
    """Lines with their time; nothing is kept unless `is_on`."""

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on
        self.lines: list[str] = []

    def add(self, what: str, who: str = "") -> None:
        """One line, now."""
        if self.is_on:
            now = asyncio.get_running_loop().time()
            self.lines.append(f"{now:9.4f} {who or current() or 'world':8} {what}")


class LogWatch(logging.Handler):
    """What the broker logs goes into the trace; what it logs as an error is told to `on_error`."""

    def __init__(self, trace: Trace, on_error: Callable[[str], None]) -> None:
        super().__init__(logging.DEBUG if trace.is_on else logging.ERROR)
        self._trace = trace
        self._on_error = on_error

    def emit(self, record: logging.LogRecord) -> None:
        """One record of the broker."""
        text = record.getMessage()
        if record.levelno >= logging.ERROR:
            if record.exc_info:
                text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
            self._on_error(text)
        self._trace.add(f"log: {text}")

    def __enter__(self) -> LogWatch:
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.addHandler(self)
            logger.propagate = False
            logger.setLevel(self.level)
        return self

    def __exit__(self, *_: object) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)
