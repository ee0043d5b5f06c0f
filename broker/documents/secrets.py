"""Secrets are given by reference and never written into a document, so that none gets into the store, a log or an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from broker.documents.faults import Where, refuse
from broker.documents.fields import Body

SECRET_NAME = re.compile(r"(?:.*_)?(?:token|password|passphrase|secret|secret_key|private_key|api_key|access_key)")
"""Fields of these names hold a secret, whatever the engine."""
SHAPE = "write {env: NAME} or {file: PATH}, and keep the secret there"


class SecretRef(Body):
    """Where a broker finds a secret: in a variable of its environment, or in a file on its machine."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    file: Annotated[str, Field(pattern=r"^/")] | None = None

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Self:
        if (self.env is None) == (self.file is None):
            refuse(((), SHAPE))
        return self


def written_secrets(settings: Mapping[str, Any], where: Where = ()) -> Iterator[tuple[Where, str]]:
    """An objection to each field below `settings` whose name says that it holds a secret and that is no reference to one.
    Never quotes what it found."""
    for name, value in settings.items():
        here = (*where, name)
        if SECRET_NAME.fullmatch(name.lower()):
            if value is not None and not _is_reference(value):
                yield here, f"holds a secret, and secrets are given by reference: {SHAPE}"
        elif isinstance(value, dict):
            yield from written_secrets(value, here)
        elif isinstance(value, list):
            nested = {str(position): item for position, item in enumerate(value) if isinstance(item, dict)}
            yield from written_secrets(nested, here)


def _is_reference(value: Any) -> bool:
    try:
        SecretRef.model_validate(value)
    except ValidationError:
        return False
    return True
