"""Requests to and replies of slurmrestd, in the dialects v0.0.38 (Slurm 22.05) and v0.0.40 to v0.0.42 (23.11 to 24.11). Pure.

https://slurm.schedmd.com/rest_api.html. Newer dialects write numbers as {set, infinite, number}, states as lists and
environments as lists; what is read here is read in either.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from adapters.base import Accepted, Outcome, Refused, Unknown, Unreachable
from adapters.slurm.batch import Submission
from adapters.slurm.codec import MIB_PER_GIB, REFUSALS, Job, Listing, Node, expand_hosts, gpus_from_gres
from topology.resources import Resources

OLDEST = "v0.0.38"
VERSIONS = ("v0.0.42", "v0.0.41", "v0.0.40", OLDEST)
"""In the order in which they are asked for."""
HISTORY_S = 7 * 86400
"""Far beyond what any observation is late."""
UNSPECIFIED = -1
"""What 22.05 says of a token that it does not take, and of a controller that does not answer, and of much else."""
NOTHING_FOUND = 9003
"""v0.0.38 calls an empty answer from accounting an error."""
NO_SUCH_JOB = 2017
ENDED_ALREADY = 2021


def job_body(each: Submission, version: str) -> dict[str, Any]:
    """The body of `POST job/submit`."""
    is_old = version == OLDEST
    place = each.place
    job: dict[str, Any] = {
        "name": each.name,
        "comment": each.comment,
        "tasks": each.tasks,
        "cpus_per_task": each.cpus_per_task,
        "current_working_directory": "/",
        "standard_output": "/dev/null",
        "standard_error": "/dev/null",
        "standard_input": "/dev/null",
        "environment": {"PATH": each.path} if is_old else [f"PATH={each.path}"],
        # v0.0.38 takes `requeue: false` and requeues all the same
        **({"no_requeue": True} if is_old else {"requeue": False}),
        "partition": place.partition,
        "account": place.account,
        "qos": place.qos,
        "constraints": place.constraint,
        "reservation": place.reservation,
    }
    if each.tasks == 1:
        job["nodes"] = 1 if is_old else "1"
    numbers = {
        "memory_per_node": each.memory_per_node_mib or None,
        "memory_per_cpu": each.memory_per_cpu_mib or None,
        "time_limit": each.limit_min,
    }
    for name, number in numbers.items():
        if number is not None:
            job[name] = number if is_old else {"set": True, "infinite": False, "number": number}
    if each.gpus and is_old:
        job["gres" if each.tasks == 1 else "gpus_per_task"] = each.gres_words if each.tasks == 1 else each.gpu_words
    elif each.gpus:
        words = ",".join(f"gres/{word}" for word in each.gres_words.split(","))
        job["tres_per_node" if each.tasks == 1 else "tres_per_task"] = words
    job = {name: value for name, value in job.items() if value is not None}
    return {"job": job, "script": each.script} if is_old else {"job": {**job, "script": each.script}}


def submit_outcome(status: int, reply: Any) -> Outcome:
    """What became of one submission. A job that has an id was taken, whatever is said beside it (of one that is held, an error);
    only what Slurm itself says no to is refused."""
    if isinstance(reply, dict) and isinstance(reply.get("job_id"), int | str) and reply["job_id"]:
        return Accepted(str(reply["job_id"]))
    number, words = error_of(reply)
    if number in REFUSALS:
        return Refused(f"Slurm refuses it: {words}")
    return Unknown(f"slurmrestd answered {status}: {words}")


def error_of(reply: Any) -> tuple[int, str]:
    """Number and words of the first error that a reply names; 0 and "" where it names none."""
    for error in _errors(reply):
        number = error.get("error_number", error.get("error_code", UNSPECIFIED))
        words = ": ".join(str(error[name]) for name in ("error", "description") if error.get(name))
        return (number if isinstance(number, int) else UNSPECIFIED), words[:500]
    return 0, ""


def _errors(reply: Any) -> list[Mapping[str, Any]]:
    errors = reply.get("errors") if isinstance(reply, dict) else None
    return [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []


def listing_from_json(nodes: Any, jobs: Any, diag: Any) -> Listing:
    """Of the replies to `GET nodes`, `GET jobs` and `GET diag`. Raises Unreachable for anything else."""
    try:
        found = [node_from_json(node) for node in nodes["nodes"]]
        threads = {node["name"]: int(node.get("threads") or 1) for node in nodes["nodes"]}
        says = diag["statistics"]
        life, now = str(_number(says["req_time_start"]) or ""), float(_number(says["req_time"]) or 0)
        return Listing(found, [job_from_json(job, threads) for job in jobs["jobs"]], life, now)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise Unreachable(f"slurmrestd's listing makes no sense: {error!r}") from error


def node_from_json(node: Mapping[str, Any]) -> Node:
    """One of `GET nodes`."""
    states = [*_words(node["state"]), *_words(node.get("state_flags") or [])]
    features = node.get("active_features") or []
    return Node(
        node["name"],
        frozenset(node["partitions"]),
        frozenset(state.upper() for state in states),
        Resources.of(node["cpus"], node["real_memory"] / MIB_PER_GIB, gpus_from_gres(node.get("gres") or "")),
        Resources.of(node["alloc_cpus"], node["alloc_memory"] / MIB_PER_GIB, gpus_from_gres(node.get("gres_used") or "")),
        frozenset(features.split(",") if isinstance(features, str) else features),
    )


def job_from_json(job: Mapping[str, Any], threads: Mapping[str, int]) -> Job:
    """One of `GET jobs`. `threads`: of a core, by node."""
    return Job(
        id=str(job["job_id"]),
        name=job["name"] or "",
        user=job["user_name"] or "",
        states=tuple(_words(job["job_state"])),
        reason=job.get("state_reason") or "",
        comment=_comment(job.get("comment")),
        restarts=int(job.get("restart_cnt") or 0),
        status=_status(job["exit_code"]),
        submitted_at=_time(job["submit_time"]),
        started_at=_time(job["start_time"]),
        ended_at=_time(job["end_time"]),
        held=_held(job, threads),
    )


def history_path(version: str, names: Sequence[str], now: float) -> str:
    """Of the last week. slurmrestd takes no comma and no colon that is not escaped, and a time only as `uts<epoch>`."""
    return f"/slurmdb/{version}/jobs?job_name={quote(','.join(names), safe='')}&start_time=uts{int(now) - HISTORY_S}"


def history_from_json(reply: Any) -> list[Job]:
    """Of `GET /slurmdb/.../jobs`. v0.0.38 tells signals and no exit codes: a job that exited 3 is FAILED with 0. Raises
    Unreachable for anything else."""
    try:
        return [_past(job) for job in reply["jobs"]]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise Unreachable(f"slurmrestd's history makes no sense: {error!r}") from error


def _past(job: Mapping[str, Any]) -> Job:
    times, state, comment = job["time"], job["state"], job.get("comment")
    nodes, words = job.get("nodes") or "", _words(state["current"])
    status = _status(job["exit_code"])
    return Job(
        id=str(job["job_id"]),
        name=job["name"] or "",
        user=job.get("user") or "",
        states=tuple(words),
        reason=state.get("reason") or "",
        comment=_comment(comment.get("job") if isinstance(comment, dict) else comment),
        status=None if "FAILED" in words and not status else status,
        submitted_at=_time(times["submission"]),
        started_at=_time(times["start"]),
        ended_at=_time(times["end"]),
        held=dict.fromkeys(expand_hosts(nodes) if nodes != "None assigned" else [], Resources()),
    )


def partitions_of(reply: Any) -> set[str]:
    """Names of `GET partitions`. Raises Unreachable for anything else."""
    try:
        return {str(partition["name"]) for partition in reply["partitions"]}
    except (KeyError, TypeError) as error:
        raise Unreachable(f"slurmrestd's partitions make no sense: {error!r}") from error


def is_up(reply: Any) -> bool:
    """Whether a controller answered, of `GET ping`."""
    pings = reply.get("pings") if isinstance(reply, dict) else None
    return isinstance(pings, list) and any(_pinged(ping) for ping in pings if isinstance(ping, dict))


def _pinged(ping: Mapping[str, Any]) -> bool:
    return ping.get("ping", ping.get("pinged")) == "UP" or ping.get("responding") is True


def expires_at(token: str) -> float | None:
    """When a JWT ends, in epoch seconds; None for one that does not say (RFC 7519, section 4.1.4)."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return float(claims["exp"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None


def _held(job: Mapping[str, Any], threads: Mapping[str, int]) -> dict[str, Resources]:
    """By node; where it is not told, the names alone."""
    names = expand_hosts(job.get("nodes") or "")
    held = dict.fromkeys(names, Resources())
    gres = job.get("gres_detail") or []
    given = job.get("job_resources") or {}
    for node, cpus, memory in _allocations(given, threads):
        place = names.index(node) if node in names else -1
        gpus = gpus_from_gres(gres[place]) if 0 <= place < len(gres) else {}
        held[node] = Resources.of(cpus, memory / MIB_PER_GIB, gpus)
    return held


def _allocations(given: Mapping[str, Any], threads: Mapping[str, int]) -> list[tuple[str, float, float]]:
    """Node, cpus and MiB, of `job_resources`."""
    if "allocated_nodes" in given:
        return [(node["nodename"], _old_cpus(node, threads), node["memory_allocated"]) for node in given["allocated_nodes"] or []]
    nodes = given.get("nodes") or {}
    allocation = nodes.get("allocation") if isinstance(nodes, dict) else given.get("allocated_nodes")
    return [(node["name"], node["cpus"]["count"], node["memory"]["allocated"]) for node in allocation or []]


def _old_cpus(node: Mapping[str, Any], threads: Mapping[str, int]) -> int:
    """In v0.0.38: cores in use times their threads."""
    sockets = node["sockets"].values() if isinstance(node["sockets"], dict) else node["sockets"]
    cores = sum(len(socket["cores"]) for socket in sockets)
    return cores * threads.get(node["nodename"], 1)


def _words(given: Any) -> list[str]:
    return [str(word).upper() for word in given] if isinstance(given, list) else [str(given).upper()]


def _comment(given: Any) -> str:
    return given if isinstance(given, str) else ""


def _number(given: Any) -> float | None:
    if isinstance(given, dict):
        return given["number"] if given.get("set") else None
    return given if isinstance(given, int | float) else None


def _time(given: Any) -> float | None:
    return _number(given) or None


def _status(given: Any) -> int:
    """As of wait(2)."""
    if not isinstance(given, dict):
        return int(given)
    code = _number(given.get("return_code")) or 0
    sign = given.get("signal") or {}
    number = _number(sign.get("id", sign.get("signal_id"))) or 0
    return int(code) << 8 | int(number)


def ours_of(jobs: Sequence[Job], user: str) -> list[Job]:
    """Those of one user: REST lists everybody's."""
    return [job for job in jobs if job.user == user]

