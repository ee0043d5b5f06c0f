"""Log lines on stderr, one for each record: for people `time level where message` and ids as `name=value`; for machines JSON."""

from __future__ import annotations

import json
import logging
import sys
import time

IDS = ("job", "site", "attempt", "member", "trace_id", "span_id")
"""What callers pass as `extra`, tracing adds, and readers search for."""


class Lines(logging.Formatter):
    """One line for each record; a bug's traceback behind it."""

    def format(self, record: logging.LogRecord) -> str:
        """See the module."""
        message = json.dumps(record.getMessage(), ensure_ascii=False)
        parts = [_moment(record), record.levelname.lower(), record.name, message]
        parts += [f"{name}={getattr(record, name)}" for name in IDS if hasattr(record, name)]
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One object for each record: `time`, `level`, `logger`, `message`, the ids, and `traceback` of a bug."""

    def format(self, record: logging.LogRecord) -> str:
        """See the module."""
        told = {"time": _moment(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        told |= {name: str(getattr(record, name)) for name in IDS if hasattr(record, name)}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


FORMATS: dict[str, type[logging.Formatter]] = {"text": Lines, "json": JsonLines}


def log_to_stderr(level: str, format_: str = "text") -> None:
    """Begin to log; what other libraries say only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[format_]())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in ("broker", "adapters", "topology"):
        logging.getLogger(package).setLevel(level.upper())


def _moment(record: logging.LogRecord) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{at}.{int(record.msecs):03d}Z"
