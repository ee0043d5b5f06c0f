"""Who may do what: tokens from a file, and the callers that they stand for.

The file holds a SHA-256 of each token and never a token. A plain hash is enough: a token is 256 random bits, so that nobody can
try them out, as one could with passwords, for which slow hashes are made.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from broker.clock import Clock
from broker.documents.fields import Name, epoch_of
from broker.documents.plain import yaml_of
from broker.documents.reading import DocumentError, parse_plain

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""So often, at most, the file is looked at for changes."""
TOKEN_BYTES = 32
PREFIX = "fed_"
"""What tokens begin with, so that scanners find one that was published by mistake."""
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Role(StrEnum):
    """What a caller may do; each may do what those before it may."""

    VIEWER = "viewer"
    """Look at all of the tenant's."""
    USER = "user"
    """Submit, cancel and hold jobs, and declare datasets, of the tenant."""
    OPERATOR = "operator"
    """The same for all tenants, and run the sites: cordon, test, resume."""
    ADMIN = "admin"
    """Register and remove sites, links and tenants too."""

    def may(self, least: Role) -> bool:
        """Whether it is `least` or more."""
        roles = list(Role)
        return roles.index(self) >= roles.index(least)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. Without a tenant: of all of them."""

    name: str
    role: Role
    tenant: str | None = None


LOCAL = Caller("local", Role.ADMIN)
"""Whoever is on this machine, where the endpoint knows no tokens."""


class TokensError(Exception):
    """A file of tokens that cannot be taken; the message names file, field and cure."""


def _moment(text: str) -> str:
    epoch_of(text)
    return text


class Token(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    role: Role
    tenant: Name | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    expires: Annotated[str, AfterValidator(_moment)] | None = None
    """RFC 3339; UTC where it names no offset."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tenant and self.role.may(Role.OPERATOR):
            raise ValueError(f"tenant: an {self.role} is of all tenants: leave it out")
        if not self.tenant and self.role is Role.USER:
            raise ValueError("tenant: a user is of one: name it")
        return self

    @property
    def expires_at(self) -> float:
        """Epoch seconds; infinite where it never does."""
        return float("inf") if self.expires is None else epoch_of(self.expires)


class TokenFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: list[Token] = []

    @model_validator(mode="after")
    def _has_each_once(self) -> Self:
        names = [token.name for token in self.tokens]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"{twice} is there twice: give each its own name, or rotate the one that is there")
        return self


def read_tokens(path: Path) -> Sequence[Token]:
    """The entries of a file. Raises TokensError."""
    try:
        plain = parse_plain(path.read_text())
        return TokenFile.model_validate(plain[0] if plain else {}).tokens
    except ValidationError as error:
        faults = "; ".join(_fault(each) for each in error.errors())
        cure = "each entry is {name, role, tenant, sha256}, and `fed token new` makes one"
        raise TokensError(f"{path}: {faults}; {cure}") from error
    except (OSError, UnicodeDecodeError, DocumentError) as error:
        raise TokensError(f"{path}: {error}") from error


def _fault(error: ErrorDetails) -> str:
    where = ".".join(map(str, error["loc"]))
    return f"{where}{': ' * bool(where)}{error['msg'].removeprefix('Value error, ')}"


def is_private(path: Path) -> bool:
    """Whether nobody but its owner can read a file."""
    return not path.stat().st_mode & OTHERS


def hash_of(token: str) -> str:
    """What the file holds of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def add_token(path: Path, name: str, role: Role, tenant: str | None, expires: str | None) -> str:
    """Add an entry, and return the token, which is nowhere else. The file is made, for its owner alone, where it is absent.
    Raises TokensError."""
    token = f"{PREFIX}{secrets.token_urlsafe(TOKEN_BYTES)}"
    entry = {"name": name, "role": role.value, "tenant": tenant, "sha256": hash_of(token), "expires": expires}
    known = [_plain(each) for each in (read_tokens(path) if path.exists() else ())]
    _write(path, [*known, {field: value for field, value in entry.items() if value is not None}])
    return token


def remove_token(path: Path, name: str) -> None:
    """Take an entry away. Raises TokensError."""
    tokens = _with(path, name)
    del tokens[name]
    _write(path, [_plain(token) for token in tokens.values()])


def rotate_token(path: Path, name: str, grace_s: float, now: float) -> str:
    """Give an entry another token, and return it. The old one is good for `grace_s` more, as `<name>-old`, so that one sees in
    the audit who still uses it. Raises TokensError."""
    tokens = _with(path, name)
    token, old = f"{PREFIX}{secrets.token_urlsafe(TOKEN_BYTES)}", tokens[name]
    tokens[name] = old.model_copy(update={"sha256": hash_of(token)})
    former = f"{name[:36]}-old"  # a name has at most 40 characters
    tokens.pop(former, None)
    if grace_s:
        until = datetime.fromtimestamp(min(now + grace_s, old.expires_at), UTC).isoformat(timespec="seconds")
        tokens[former] = old.model_copy(update={"name": former, "expires": until})
    _write(path, [_plain(each) for each in tokens.values()])
    return token


def _with(path: Path, name: str) -> dict[str, Token]:
    """The entries of a file by name. Raises TokensError, also where none has this name."""
    tokens = {token.name: token for token in read_tokens(path)}
    if name not in tokens:
        raise TokensError(f"{path}: there is no token {name}; it has {', '.join(tokens) or 'none'}")
    return tokens


def _plain(token: Token) -> dict[str, Any]:
    return token.model_dump(mode="json", exclude_none=True)


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    """At once or not at all. What would make no file that can be read is not written. Raises TokensError."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(yaml_of({"tokens": entries}))
            file.flush()
            os.fsync(file.fileno())
        read_tokens(draft)
        draft.replace(path)
    except OSError as error:
        raise TokensError(f"{path}: {error.strerror}") from error
    except TokensError as error:
        raise TokensError(str(error).replace(str(draft), str(path))) from error
    finally:
        draft.unlink(missing_ok=True)


class Tokens:
    """The tokens of a file, read anew when it changed. A change that cannot be read leaves those from before, and `objection`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.objection = ""
        self._path = path
        self._clock = clock
        self._seen = self._stamp()
        self._tokens = read_tokens(path)
        self._looked_at = clock.boottime()

    def caller_of(self, token: str) -> Caller | None:
        """Whom a token stands for; None for one that is unknown or has expired. Takes as long whichever it is."""
        self._refresh()
        given, found = hash_of(token), None
        for each in self._tokens:
            if hmac.compare_digest(given, each.sha256):
                found = each
        if found is None or found.expires_at <= self._clock.now():
            return None
        return Caller(found.name, found.role, found.tenant)

    def _refresh(self) -> None:
        now = self._clock.boottime()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._tokens, self.objection = read_tokens(self._path), ""
            log.info("%s: %d tokens", self._path, len(self._tokens))
        except TokensError as error:
            self.objection = f"the tokens from before stay good: {error}"
            log.error("%s", self.objection)

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
