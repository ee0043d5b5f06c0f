"""The kinds of engine that the contract is checked on, and which claims hold for which of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.contract.adapters import Kind
from tests.contract.kubernetes_kind import KubernetesKind
from tests.contract.lsf_kind import LsfKind
from tests.contract.process_kind import ProcessKind
from tests.contract.ray_kind import RayKind
from tests.contract.slurm_kind import SlurmCliKind, SlurmNewerKind, SlurmRestKind
from tests.contract.twin_kind import TwinKind, WeakTwinKind
from tests.contract.yarn_kind import YarnHdfsKind, YarnKind

KINDS: Mapping[str, type[Kind]] = {
    kind.name: kind
    for kind in (
        *(TwinKind, WeakTwinKind, ProcessKind, SlurmCliKind, SlurmRestKind, SlurmNewerKind, KubernetesKind, YarnKind),
        *(YarnHdfsKind, LsfKind, RayKind),
    )
}


def parameters(holds: Callable[[type[Kind]], bool] = lambda kind: True) -> list[object]:
    """The names of these kinds; those on real engines are marked, and skipped with the reason where they cannot run."""
    return [_parameter(name, kind) for name, kind in KINDS.items() if holds(kind)]


def _parameter(name: str, kind: type[Kind]) -> object:
    reason = kind.missing()
    marks = [pytest.mark.engines] if kind.is_real else []
    return pytest.param(name, marks=[*marks, pytest.mark.skipif(bool(reason), reason=reason)])


def only(holds: Callable[[type[Kind]], bool]) -> pytest.MarkDecorator:
    """Run a claim on those kinds alone of which it holds."""
    return pytest.mark.parametrize("kind", parameters(holds), indirect=True)


where_names_are_unique = only(lambda kind: kind.capabilities.unique_names)
where_names_are_not_unique = only(lambda kind: not kind.capabilities.unique_names)
where_owners_are_known = only(lambda kind: kind.capabilities.refuses_stale_epochs)
where_listings_are_prompt = only(lambda kind: kind.capabilities.settling_s == 0)
where_accepted_runs_are_kept = only(lambda kind: getattr(kind, "keeps_what_it_accepts", True))
where_runs_outlive_a_kill = only(lambda kind: getattr(kind, "runs_outlive_a_kill", True))
where_programs_run = only(lambda kind: kind.runs_programs)
