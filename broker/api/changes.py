"""Writing what users and admins want: each write replaces only the revision that was read; who loses reads again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from broker.api.matching import Wanted
from broker.api.services import Services
from broker.auditing import entry
from broker.errors import InConflict, TooLarge
from broker.store import codec
from broker.store.base import Rejected, Saved
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
    value, revision = (held.value, held.revision) if held and not held.error and not wanted else await fresh(services, key)
    for _ in range(TRIES):
        if wanted:
            wanted.check(revision)
        changed = change(value)
        if changed == value:
            return value, revision
        audited = entry(services.context, who, what or ("change" if value else "create"), key, value, changed)
        result = (await services.context.ledger.commit([[Save(key, changed, revision), audited]]))[0]
        if isinstance(result, Saved):
            return changed, result.revision
        if isinstance(result, Rejected):
            raise TooLarge(result.reason)
        value, revision = await fresh(services, key)
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


async def save_all(services: Services, values: Mapping[str, object]) -> None:
    """Write values by key, whatever is there now."""
    entries = services.context.world.mirror.entries
    due = {key: value for key, value in values.items() if key not in entries or entries[key].value != value}
    if due:
        await services.context.ledger.commit([[Save(key, value, None)] for key, value in due.items()])


async def check_wanted(services: Services, key: str, wanted: Wanted | None) -> None:
    """Raises Outdated where the record is not as `wanted`."""
    if wanted:
        wanted.check((await fresh(services, key))[1])


async def remove(services: Services, keys: Iterable[str], who: str = "") -> None:
    """Remove records, whatever they hold now; with entries of the audit where somebody, `who`, wants just that."""
    world = services.context.world
    due = {key: world.revision(key) for key in keys if world.revision(key)}
    values = {key: world.mirror.entries[key].value for key in due}

    def draft(key: str, at: int) -> Draft:
        audited = [entry(services.context, who, "delete", key, values[key], None)] if who else []
        return [Erase(key, at), *audited]

    while due:
        results = await services.context.ledger.commit([draft(key, at) for key, at in due.items()])
        lost = [key for key, result in zip(due, results, strict=True) if not isinstance(result, Saved)]
        held = {key: (await fresh(services, key))[1] for key in lost}
        due = {key: at for key, at in held.items() if at}
