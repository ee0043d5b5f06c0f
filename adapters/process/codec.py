"""What crosses the engine's socket and lies in its journal, as plain JSON values: runs, reports, rooms, outcomes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.base import Accepted, EndReason, Outcome, Refused, Report, Run, SiteState, Unknown
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

RUNS_ALREADY = 3
"""A daemon's exit code when another one has its state directory."""
MAX_LINE_BYTES = 64 * 2**20
"""The longest request or reply, one line of JSON."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,199}")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What a daemon is started with. Paths are absolute; `pools` is what the site declares."""

    site: str
    storage: str
    state_dir: str
    socket: str
    pools: tuple[Pool, ...]
    cancel_grace_s: float = 10.0
    keep_logs_mib: float = 200.0
    keep_logs_hours: float = 24.0


def config_to_json(config: EngineConfig) -> dict[str, Any]:
    """As written for the daemon."""
    return {
        "site": config.site,
        "storage": config.storage,
        "state_dir": config.state_dir,
        "socket": config.socket,
        "pools": pools_to_json(config.pools),
        "cancel_grace_s": config.cancel_grace_s,
        "keep_logs_mib": config.keep_logs_mib,
        "keep_logs_hours": config.keep_logs_hours,
    }


def config_from_json(given: Mapping[str, Any]) -> EngineConfig:
    """Raises KeyError and TypeError for anything but what `config_to_json` made."""
    return EngineConfig(**{**given, "pools": pools_from_json(given["pools"])})


def pools_to_json(pools: Sequence[Pool]) -> list[Any]:
    """Name, nodes and what each node has; speed and power are the broker's concern."""
    return [[pool.name, pool.nodes, resources_to_json(pool.per_node)] for pool in pools]


def pools_from_json(given: Sequence[Any]) -> tuple[Pool, ...]:
    """The reverse."""
    return tuple(Pool(name, nodes, resources_from_json(per_node)) for name, nodes, per_node in given)


def resources_to_json(amount: Resources) -> list[Any]:
    """[cpus, memory in GiB, {type: GPUs}]."""
    return [amount.cpus, amount.memory_gib, dict(amount.gpus)]


def resources_from_json(given: Sequence[Any]) -> Resources:
    """The reverse."""
    cpus, memory_gib, gpus = given
    return Resources.of(cpus, memory_gib, gpus)


def run_to_json(run: Run) -> dict[str, Any]:
    """All of a run; what has its default is left out."""
    made: dict[str, Any] = {
        "name": run.name,
        "federation": run.federation,
        "job": run.job,
        "tenant": run.tenant,
        "tasks": run.tasks,
        "per_task": resources_to_json(run.per_task),
        "pool": run.pool,
        "command": list(run.command),
    }
    for name in ("env", "inputs", "outputs"):
        if getattr(run, name):
            made[name] = dict(getattr(run, name))
    for name in ("script", "walltime_s"):
        if getattr(run, name) is not None:
            made[name] = getattr(run, name)
    if run.claim:
        made["claim"] = run.claim
    return made


def run_from_json(given: Mapping[str, Any]) -> Run:
    """The reverse. Raises KeyError, TypeError and ValueError for what is no run."""
    per_task = resources_from_json(given["per_task"])
    return Run(**{**given, "per_task": per_task, "command": tuple(given["command"])})


def report_to_json(report: Report) -> list[Any]:
    """In the order of the fields."""
    return [
        report.name,
        report.native_id,
        report.state,
        report.started_at,
        report.ended_at,
        report.exit_code,
        report.signal,
        report.reason,
        report.message,
        report.pool,
    ]


def report_from_json(given: Sequence[Any]) -> Report:
    """The reverse. A state or reason of a newer engine: the state is unknown, the reason stays in the message."""
    name, native_id, state, started_at, ended_at, exit_code, signal, reason, message, pool = given
    known_state = SiteState(state) if state in set(SiteState) else SiteState.UNKNOWN
    known_reason = EndReason(reason) if reason in set(EndReason) else None
    if reason and not known_reason:
        message = f"{reason}: {message}"
    return Report(name, native_id, known_state, started_at, ended_at, exit_code, signal, known_reason, message, pool)


def outcome_to_json(outcome: Accepted | Refused) -> list[str]:
    """[word, native id or reason]."""
    match outcome:
        case Accepted(native_id):
            return ["accepted", native_id]
        case Refused(reason):
            return ["refused", reason]


def outcome_from_json(given: Sequence[str] | None) -> Outcome:
    """The reverse; no answer for a run, or one we cannot read, leaves it unknown."""
    match given:
        case ["accepted", native_id]:
            return Accepted(native_id)
        case ["refused", reason]:
            return Refused(reason)
    return Unknown(f"the engine answered {given!r}")


def rooms_to_json(rooms: Mapping[str, Room]) -> dict[str, Any]:
    """By pool, [free on each, nodes] for each group of equal nodes."""
    return {pool: [[resources_to_json(free), count] for free, count in room.groups] for pool, room in rooms.items()}


def rooms_from_json(given: Mapping[str, Any]) -> dict[str, Room]:
    """The reverse."""
    return {pool: Room.of((resources_from_json(free), count) for free, count in groups) for pool, groups in given.items()}


def objection(run: Run) -> str:
    """Why no engine of this kind can take the run, whatever its room; empty when it can."""
    if not _NAME.fullmatch(run.name):
        return f"a run cannot be named {run.name!r}"
    if run.tasks < 1:
        return f"a run has at least one task, not {run.tasks}"
    if not run.command and run.script is None:
        return "there is neither a command nor a script"
    for path in (*run.inputs.values(), *run.outputs.values(), *filter(None, [run.claim])):
        if not path or path.startswith("/") or ".." in path.split("/"):
            return f"{path!r} is no path below the site's storage"
    for name in (*run.inputs, *run.outputs):
        if not _NAME.fullmatch(name):
            return f"a dataset cannot be named {name!r} here"
    words = (*run.command, *run.env, *run.env.values(), *run.inputs.values(), *run.outputs.values(), run.claim)
    return "a zero byte in the command, the environment or a path" if any("\0" in word for word in words) else ""
