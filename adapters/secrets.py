"""Secrets in settings: never the words themselves, only where they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator


class SecretMissing(Exception):
    """Nothing is where a secret should be. Its message says where, and never holds a secret."""


class Secret(BaseModel):
    """`{env: NAME}` or `{file: PATH}`, exactly one. It is read at each use, so that one that was renewed is seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: Annotated[str, StringConstraints(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    file: str | None = Field(default=None, pattern="^/")

    @model_validator(mode="after")
    def _is_one(self) -> Secret:
        if (self.env is None) == (self.file is None):
            raise ValueError("give one of env and file: secrets themselves are not written into settings")
        return self

    def read(self) -> str:
        """The secret, without white space around it. Raises SecretMissing for one that is absent, empty or unreadable."""
        if self.env is not None:
            value = os.environ.get(self.env, "").strip()
            if not value:
                raise SecretMissing(f"the broker's environment has no {self.env}")
            return value
        try:
            value = Path(str(self.file)).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SecretMissing(f"{self.file} cannot be read: {error}") from error
        if not value:
            raise SecretMissing(f"{self.file} is empty")
        return value
