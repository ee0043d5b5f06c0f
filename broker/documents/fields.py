"""The kinds of field that bodies are made of; each says in its error what would be right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from broker.documents.faults import Where, suggestion
from broker.sites.layout import OURS

LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
VERSION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
AMOUNT = r"([0-9]+(?:\.[0-9]+)?)"
DURATION = re.compile(f"(?:{AMOUNT}d)?(?:{AMOUNT}h)?(?:{AMOUNT}m)?(?:{AMOUNT}s)?")
DAY_S, HOUR_S, MINUTE_S = 86_400, 3_600, 60
SMALLEST = 1e-9
"""Of any amount that is not nothing: what divides by less runs out of numbers."""
SHORTEST_S = 0.001
LONGEST_S = 366 * DAY_S
MOST_TEXT = 1_000
MOST_ARGUMENT = 100_000
MOST_ITEMS = 1_000
STORAGE_SCHEMES: Mapping[str, str] = {
    "file": "file:///srv/ams",
    "sftp": "sftp://login.example/srv/ams",
    "webhdfs": "webhdfs://namenode.example:9870/fed",
    "s3": "s3://bucket/fed",
}
"""What storage may be, and an example of each."""
RESERVED_ENV = "FED_"
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of what no reader sees: control characters, direction overrides, halves, private use, line ends."""


class Body(BaseModel):
    """Base of all bodies: no unknown fields, no coercion, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself, since it is frozen: pydantic copies each default it fills in, which took a third of the time of a check."""
        return self


def has_half_characters(text: str) -> bool:
    """Whether it holds surrogates, which no bytes stand for: JSON and YAML can write them, and nothing can store them."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


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
    if value != value.strip():
        raise ValueError("leave out the blanks at its ends")
    if any(unicodedata.category(character) in UNSEEN for character in value):
        raise ValueError("leave out control and direction characters")
    return value


def _argument(value: str) -> str:
    if "\0" in value or len(value) > MOST_ARGUMENT or has_half_characters(value):
        raise ValueError(f"use at most {MOST_ARGUMENT} characters, no NUL and no half of a character (surrogate)")
    return value


def _path(value: str) -> str:
    path = PurePosixPath(_text(value))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError("use a path below the site's storage, without '..', such as corpus/")
    if path.parts[0] == OURS:
        raise ValueError(f"use a path that is not below {OURS}, which is the broker's")
    if any(character in value for character in "*?[]"):
        raise ValueError("use one path, without the wildcards *, ?, [ and ]")
    return str(path)


def _storage_url(value: str) -> str:
    url = urlsplit(_text(value))
    example = STORAGE_SCHEMES.get(url.scheme)
    if example is None:
        schemes = " or ".join(f"{scheme}://" for scheme in STORAGE_SCHEMES)
        known = f"storage of the kind {url.scheme}:// is not supported" if url.scheme else "it names no kind of storage"
        raise ValueError(f"{known}: use {schemes}, such as {STORAGE_SCHEMES['file']}")
    path = PurePosixPath(url.path or "/")
    # fsspec reads :: as one file system in another
    is_plain = not (url.query or url.fragment or "::" in value or "@" in url.netloc or ".." in path.parts)
    if url.scheme == "file":
        if not is_plain or url.netloc or path == path.parent:
            raise ValueError(f"use the absolute path of a folder, without a host, '..', '::', '?' and '#', such as {example}")
        return f"file://{path}"
    if not is_plain or not url.hostname or (path == path.parent and url.scheme != "s3"):
        where = "bucket" if url.scheme == "s3" else "host, its port if need be,"
        raise ValueError(f"use a {where} and a path, without a user, '..', '::', '?' and '#', such as {example}")
    return f"{url.scheme}://{url.netloc}{'' if path == path.parent else path}"


def seconds_of(value: Any) -> float:
    """Seconds of a duration: a number, or text such as 90s, 2m, 1h30m, 2d. Raises ValueError."""
    if isinstance(value, str):
        match = DURATION.fullmatch(value) if value else None
        if match is None:
            raise ValueError("use seconds, or text such as 90s, 2m, 1h30m or 2d")
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        value = days * DAY_S + hours * HOUR_S + minutes * MINUTE_S + seconds
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("use seconds, or text such as 90s, 2m, 1h30m or 2d")
    if not SHORTEST_S <= value <= LONGEST_S:
        raise ValueError("use at least a millisecond (0.001) and at most 366 days")
    return float(value)


def epoch_of(text: str) -> float:
    """Epoch seconds of a moment as RFC 3339 writes it; UTC where it names no offset. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _nothing_or_something(value: float) -> float:
    if 0 < value < SMALLEST:
        raise ValueError(f"use 0, or at least {SMALLEST:g}")
    return value


def _label_name(value: str) -> str:
    if not LABEL_NAME.fullmatch(value):
        raise ValueError("use 1 to 63 letters, digits, '.', '_', '/' and '-', a letter or digit first and last")
    return value


def _label_value(value: str) -> str:
    if not LABEL_VALUE.fullmatch(value):
        raise ValueError("use up to 63 letters, digits, '.', '_' and '-', a letter or digit first and last")
    return value


def _environment_name(value: str) -> str:
    if not ENVIRONMENT_NAME.fullmatch(value):
        raise ValueError("use letters, digits and '_', not beginning with a digit")
    if value.startswith(RESERVED_ENV):
        raise ValueError(f"names that begin with {RESERVED_ENV} are the broker's: use another")
    return value


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def one_of(*allowed: str) -> AfterValidator:
    """Text that is one of these."""

    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(suggestion(value, allowed))
        return value

    return AfterValidator(check)


def named_twice(names: Iterable[str], field: str, key: str) -> Iterator[tuple[Where, str]]:
    """An objection to every name in a list that was there before."""
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        if first.setdefault(name, position) != position:
            yield (field, position, key), f"{name} is named twice: leave one out, or name another"


Name = Annotated[str, AfterValidator(_name)]
Version = Annotated[str, AfterValidator(_version)]
Text = Annotated[str, AfterValidator(_text)]
Argument = Annotated[str, AfterValidator(_argument)]
Path = Annotated[str, AfterValidator(_path)]
StorageUrl = Annotated[str, AfterValidator(_storage_url)]
Duration = Annotated[float, BeforeValidator(seconds_of)]
"""Seconds."""
LabelName = Annotated[str, AfterValidator(_label_name)]
LabelValue = Annotated[str, AfterValidator(_label_value)]
EnvironmentName = Annotated[str, AfterValidator(_environment_name)]
Labels = Annotated[dict[LabelName, LabelValue], Field(max_length=100)]
Environment = Annotated[dict[EnvironmentName, Argument], Field(max_length=1_000)]
Names = Annotated[list[Name], BeforeValidator(_one_or_more), Field(max_length=MOST_ITEMS)]
Texts = Annotated[list[Text], BeforeValidator(_one_or_more), Field(max_length=MOST_ITEMS)]
Amount = Annotated[float, Field(ge=0, le=1e9), AfterValidator(_nothing_or_something)]
Positive = Annotated[float, Field(ge=SMALLEST, le=1e9)]
Cpus = Annotated[float, Field(ge=0.001, le=1e6)]
"""No less than a thousandth: what is lost in the sums of fractions must never look like room."""
Count = Annotated[int, Field(ge=0, le=1_000_000)]
GpuCounts = Annotated[dict[Name, Count], Field(max_length=100)]
