"""The kinds of engine that the contract is checked on, and which claims hold for which of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.contract.adapters import Kind
from tests.contract.process_kind import ProcessKind
from tests.contract.twin_kind import TwinKind, WeakTwinKind

KINDS: Mapping[str, type[Kind]] = {kind.name: kind for kind in (TwinKind, WeakTwinKind, ProcessKind)}


def only(holds: Callable[[type[Kind]], bool]) -> pytest.MarkDecorator:
    """Run a claim on those kinds alone of which it holds."""
    return pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if holds(kind)], indirect=True)


where_names_are_unique = only(lambda kind: kind.capabilities.unique_names)
where_names_are_not_unique = only(lambda kind: not kind.capabilities.unique_names)
where_owners_are_known = only(lambda kind: kind.capabilities.refuses_stale_epochs)
where_listings_are_prompt = only(lambda kind: kind.capabilities.settling_s == 0)
where_programs_run = only(lambda kind: kind.runs_programs)
