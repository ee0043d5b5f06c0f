"""Writing what users and admins want: each write replaces only the revision that was read; who loses reads again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

from broker.api.matching import Wanted
from broker.api.services import Services
from broker.auditing import entry
from broker.errors import InConflict, TooLarge
from broker.store import codec
from broker.store.base import Rejected, Result, Saved
from broker.store.ledger import Draft, Erase, Save

TRIES = 10
CATCH_UP_S = 2.0


async def update(services: Services, key: str, change: Callable[[Any | None], Any], who: str, what: str = "") -> Any:
    """Write what `change` makes of the present value (None: absent), with an entry of the audit, and return it. What `change`
    returns unaltered is not written. `change` may raise, and is called again when somebody else was quicker. Raises InConflict
    and TooLarge."""
    return (await update_at(services, key, change, who, what))[0]


async def update_at(
    services: Services, key: str, change: Callable[[Any | None], Any], who: str, what: str = "", wanted: Wanted | None = None
) -> tuple[Any, int]:
    """The same, with the revision that the record has then (0: not known). Raises Outdated where it is not as `wanted`, too."""
    held = services.context.world.mirror.entries.get(key)
    is_fresh = held is None or bool(held.error) or wanted is not None
    value, revision = await fresh(services, key) if held is None or is_fresh else (held.value, held.revision)
    for _ in range(TRIES):
        if wanted:
            wanted.check(revision)
        changed = change(value)
        if changed == value and is_fresh:
            return value, revision
        if changed == value:  # as far as this member has heard
            value, revision, is_fresh = *await fresh(services, key), True
            continue
        audited = entry(services.context, who, what or ("change" if value else "create"), key, value, changed)
        result = (await services.context.ledger.commit([[Save(key, changed, revision), audited]]))[0]
        if is_saved(result):
            return changed, result.revision
        value, revision, is_fresh = *await fresh(services, key), True
    raise InConflict("others keep changing it: try again")


async def fresh(services: Services, key: str) -> tuple[Any | None, int]:
    """Value and revision as the store has them now, whatever the mirror says; None and 0 when absent. Raises InConflict for a
    record that cannot be read."""
    record = (await services.store.get([key]))[0]
    if record is None:
        return None, 0
    kind, _ = services.context.world.mirror.keys.split(key)
    try:
        return codec.decode(kind, record.value), record.revision
    except codec.Unreadable as error:
        raise InConflict(f"the record that is there cannot be read, so it is left alone: {error}") from error


async def catch_up(services: Services, key: str) -> bool:
    """Whether the store has `key`; if so, wait until the mirror knows it: it may have been written through another endpoint."""
    record = (await services.store.get([key]))[0]
    if record is None:
        return False
    async with asyncio.timeout(CATCH_UP_S):
        await services.context.world.mirror.reached(record.revision)
    return True


async def remove(services: Services, keys: Iterable[str], who: str = "", wanted: Wanted | None = None) -> None:
    """Remove records, whatever they hold now; with entries of the audit where somebody, `who`, wants just that. Raises Outdated
    where one is not as `wanted`."""
    world = services.context.world
    due = {key: (world.mirror.entries[key].value, world.revision(key)) for key in keys if world.revision(key)}

    def draft(key: str, value: object, at: int) -> Draft:
        if wanted:
            wanted.check(at)
        return [Erase(key, at), *([entry(services.context, who, "delete", key, value, None)] if who else [])]

    while due:
        results = await services.context.ledger.commit([draft(key, value, at) for key, (value, at) in due.items()])
        lost = [key for key, result in zip(due, results, strict=True) if not is_saved(result)]
        held = {key: await fresh(services, key) for key in lost}
        due = {key: found for key, found in held.items() if found[1]}


def is_saved(result: Result) -> TypeGuard[Saved]:
    """Whether a change was written; False where somebody was quicker. Raises TooLarge."""
    if isinstance(result, Rejected):
        raise TooLarge(result.reason)
    return isinstance(result, Saved)
