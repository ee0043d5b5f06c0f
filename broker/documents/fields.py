"""The kinds of field that bodies are made of; each says in its error what would be right."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
VERSION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
DAY_S, HOUR_S, MINUTE_S = 86_400, 3_600, 60
LONGEST_S = 366 * DAY_S
MOST_TEXT = 1_000
MOST_PATH = 1_000
MOST_COMMAND = 100_000
STORAGE_SCHEMES = ("file",)
RESERVED_ENV = "FED_"


class Body(BaseModel):
    """Base of all bodies: no unknown fields, no coercion, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True)


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("use 1 to 40 of a-z, 0-9 and '-', beginning and ending with a letter or digit")
    return value


def _version(value: str) -> str:
    if not VERSION.fullmatch(value):
        raise ValueError("use 1 to 64 letters, digits, '.', '_' and '-', beginning and ending with a letter or digit")
    return value


def _text(value: str) -> str:
    if len(value) > MOST_TEXT:
        raise ValueError(f"use at most {MOST_TEXT} characters")
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in value):
        raise ValueError("leave out control and direction characters")
    return value


def _argument(value: str) -> str:
    if "\0" in value or len(value) > MOST_COMMAND:
        raise ValueError(f"use at most {MOST_COMMAND} characters, and no NUL")
    return value


def _path(value: str) -> str:
    path = PurePosixPath(_text(value))
    if path.is_absolute() or ".." in path.parts or len(value) > MOST_PATH or not path.parts or path.parts[0] == ".fed":
        raise ValueError("use a path below the site's storage, without '..', and not below .fed, which is the broker's")
    return str(path)


def _storage_url(value: str) -> str:
    url = urlsplit(_text(value))
    if url.scheme not in STORAGE_SCHEMES:
        raise ValueError(f"use one of {', '.join(f'{scheme}://' for scheme in STORAGE_SCHEMES)}, such as file:///srv/ams")
    if url.netloc or not url.path.startswith("/") or ".." in PurePosixPath(url.path).parts or url.query or url.fragment:
        raise ValueError("use an absolute path without a host or '..', such as file:///srv/ams")
    return f"{url.scheme}://{PurePosixPath(url.path)}"


def seconds_of(value: Any) -> float:
    """Seconds of a duration: a number, or text such as 90s, 2m, 1h30m, 2d. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("use seconds, or text such as 90s, 2m, 1h30m or 2d")
    if isinstance(value, str):
        match = DURATION.fullmatch(value) if value else None
        if match is None:
            raise ValueError("use seconds, or text such as 90s, 2m, 1h30m or 2d")
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        value = days * DAY_S + hours * HOUR_S + minutes * MINUTE_S + seconds
    if not 0 < value <= LONGEST_S:
        raise ValueError("use more than 0 and at most 366 days")
    return float(value)


def _environment(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        if not ENVIRONMENT_NAME.fullmatch(name):
            raise ValueError(f"{name[:40]!r}: use names of letters, digits and '_', not beginning with a digit")
        if name.startswith(RESERVED_ENV):
            raise ValueError(f"{name[:40]!r}: names that begin with {RESERVED_ENV} are the broker's")
    return value


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Name = Annotated[str, AfterValidator(_name)]
Version = Annotated[str, AfterValidator(_version)]
Text = Annotated[str, AfterValidator(_text)]
Argument = Annotated[str, AfterValidator(_argument)]
Path = Annotated[str, AfterValidator(_path)]
StorageUrl = Annotated[str, AfterValidator(_storage_url)]
Duration = Annotated[float, BeforeValidator(seconds_of)]
"""Seconds."""
Environment = Annotated[dict[str, Argument], AfterValidator(_environment)]
Names = Annotated[list[Name], BeforeValidator(_one_or_more)]
Texts = Annotated[list[Text], BeforeValidator(_one_or_more)]
Amount = Annotated[float, Field(ge=0, le=1e9)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
GpuCounts = dict[Name, Count]
