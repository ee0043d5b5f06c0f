"""A site's engine: its kind, and settings that only the kind itself can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationError

from broker.documents.faults import Where, objections_of, refuse, shown, suggestion
from broker.documents.fields import has_half_characters
from broker.documents.secrets import written_secrets

MOST_SETTINGS = 1_000
DEEPEST_SETTING = 10


def _engine(value: dict[str, Any]) -> dict[str, Any]:
    """The kind is known, no secret is written out, and the settings are as the kind's own model reads them."""
    # here, and not above, because every kind's code comes with the table, and most readers of documents need none of it
    from adapters.kinds import KINDS

    kind, settings = value.get("kind"), {name: item for name, item in value.items() if name != "kind"}
    if not isinstance(kind, str) or kind not in KINDS:
        what = "is missing" if kind is None else f"{shown(kind)} is no kind of engine"
        refuse((("kind",), f"{what}: {suggestion(str(kind), tuple(KINDS))}"))
    refuse(*_unfit(settings))
    refuse(*written_secrets(settings))
    model = KINDS[str(kind)].settings
    try:
        model.model_validate(settings)
    except ValidationError as error:
        refuse(*objections_of(error, model))
    return value


def _unfit(settings: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    """Settings have any shape, so their size is looked at here."""
    todo: list[tuple[Where, Any]] = [((), settings)]
    seen = 0
    while todo:
        where, value = todo.pop()
        seen += 1
        if seen > MOST_SETTINGS or len(where) > DEEPEST_SETTING:
            yield (), f"holds too much: use at most {MOST_SETTINGS} settings, {DEEPEST_SETTING} deep"
            return
        if isinstance(value, str) and has_half_characters(value):
            yield where, "holds half a character (a surrogate): leave it out"
        if isinstance(value, dict):
            todo += [((*where, name), item) for name, item in value.items()]
        elif isinstance(value, list):
            todo += [((*where, position), item) for position, item in enumerate(value)]


EngineSettings = Annotated[dict[str, Any], AfterValidator(_engine)]
"""`kind`, and beside it that kind's settings, as they were given."""
