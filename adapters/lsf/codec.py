"""Our runs as `bsub` options, and what LSF's commands print as our values. Formats are those of LSF 10.1:
https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_command_ref/bjobs.o.1.html and the pages named below."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from adapters.base import Accepted, Outcome, Refused, Run, Unknown, Unreachable
from adapters.lsf.settings import CpuMode, LsfSettings
from topology.resources import Resources
from topology.site import Pool

JOB_FIELDS = (
    "jobid",
    "jobindex",
    "stat",
    "job_name",
    "job_description",
    "exec_host",
    "start_time",
    "finish_time",
    "exit_code",
    "exit_reason",
    "pend_reason",
)
MARK = "fedbroker"
"""First word of the description of every job of ours."""

_SUBMITTED = re.compile(r"Job <(\d+)> is submitted to (?:default )?queue <[^>]*>")
_NOT_SUBMITTED = "Job not submitted"
_PASSING = re.compile(
    r"library call|daemon|time[d]? ?out|not responding|LSF is down|Cannot connect|pending job|concurrent|try again|license|limit",
    re.IGNORECASE,
)
"""Words of refusals that are true for now only."""
_NO_JOBS = re.compile(r"No (?:matching |unfinished )?job found|Job <[^>]*> is not found", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as `bjobs` lists it. `hosts` is the number of slots by host."""

    id: str
    name: str
    federation: str
    """Empty for a job that is not a broker's."""
    pool: str
    per_task: Resources
    slots_per_task: int
    stat: str
    hosts: Mapping[str, int]
    start_time: str
    finish_time: str
    exit_code: str
    exit_reason: str
    pend_reason: str

    @property
    def is_over(self) -> bool:
        """Whether LSF has done with it."""
        return self.stat in ("DONE", "EXIT")

    @property
    def key(self) -> str:
        """Its name in our records."""
        return f"{self.name}@{self.id}"


def objection(run: Run, pools: Sequence[Pool], settings: LsfSettings) -> str:
    """Why the site will never take the run; empty when it may."""
    pool = next((pool for pool in pools if pool.name == run.pool), None)
    if pool is None:
        return f"there is no pool {run.pool}"
    if run.image is not None or run.spark is not None:
        return "this site takes neither images nor Spark applications"
    if run.per_task.times_in(pool.per_node) < 1:
        return f"no node of pool {run.pool} has {run.per_task} for a task: each has {pool.per_node}"
    if pool.empty.fit(run.per_task) < run.tasks:
        return f"pool {run.pool} holds {pool.empty.fit(run.per_task)} tasks of {run.per_task} at once, not {run.tasks}"
    if len(run.per_task.gpus) > 1:
        return "a task has GPUs of one type here: a requirement names one model"
    if run.tasks > 1 and run.per_task.gpus and slots_per_task(run, settings) > 1:
        return "GPUs of a gang are given per slot: with several cpus per task, set cpus: affinity for this site"
    return ""


def slots_per_task(run: Run, settings: LsfSettings) -> int:
    """Job slots of one task."""
    return 1 if settings.cpus is CpuMode.AFFINITY else _cpus(run)


def submission(run: Run, settings: LsfSettings) -> list[str]:
    """The words of `bsub` (https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_command_ref/bsub.1.html), without its script.

    A task's slots are kept on one host by `span[hosts=1]` or `span[block=n]`; memory is asked for per slot by the `/task`
    method, which does not depend on `RESOURCE_RESERVE_PER_TASK`."""
    pool, tenant = settings.pool(run.pool), settings.tenant(run.tenant)
    slots = slots_per_task(run, settings)
    words = ["-J", run.name, "-Jd", description(run, slots), "-q", tenant.queue or pool.queue or run.pool]
    words += ["-n", str(run.tasks * slots), "-R", requirement(run, settings), "-o", "/dev/null", "-rn"]
    if run.walltime_s is not None:
        # in whole minutes, and the script itself ends what is over its time before LSF does
        words += ["-W", str(math.ceil(run.walltime_s / 60) + 1)]
    for kind, count in run.per_task.gpus:
        per = "/task" if run.tasks > 1 else ""
        words += ["-gpu", f"num={count}{per}:gmodel={settings.gpus.get(kind, kind)}:j_exclusive=yes"]
    named = {
        "-P": tenant.project,
        "-app": tenant.app or pool.app,
        "-G": tenant.user_group,
        "-sla": tenant.service_class,
        "-U": settings.reservation,
    }
    words += [word for option, value in named.items() if value is not None for word in (option, value)]
    hosts = pool.hosts
    if hosts:
        words += ["-m", " ".join(hosts)]
    return [*words, *settings.options]


def requirement(run: Run, settings: LsfSettings) -> str:
    """The resource requirement (https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_admin/res_req_strings_about.html)."""
    slots = slots_per_task(run, settings)
    parts = []
    select = settings.pool(run.pool).select
    if select:
        parts.append(f"select[{select}]")
    if run.per_task.memory_gib:
        parts.append(f"rusage[mem={_memory(run.per_task.memory_gib / slots, settings)}/task]")
    if run.tasks == 1:
        parts.append("span[hosts=1]")
    elif slots > 1:
        parts.append(f"span[block={slots}]")
    if settings.cpus is CpuMode.AFFINITY:
        parts.append(f"affinity[core({_cpus(run)})]")
    return " ".join(parts) or "span[hosts=-1]"


def _cpus(run: Run) -> int:
    return max(1, math.ceil(run.per_task.cpus))


def _memory(gib: float, settings: LsfSettings) -> str:
    """Rounded up to what is a whole number of the unit; in MB where requirements take units."""
    if settings.memory_unit is None:
        return f"{math.ceil(gib * 1024)}MB"
    return str(math.ceil(gib * settings.memory_unit.per_gib))


def description(run: Run, slots: int) -> str:
    """What a job's description says of it: whose it is, where, and what each of its tasks holds."""
    needs = run.per_task
    gpus = ",".join(f"{kind}:{count}" for kind, count in needs.gpus)
    return f"{MARK} {run.federation} {run.pool} cpus={needs.cpus:g} gib={needs.memory_gib:g} slots={slots} gpus={gpus}"


def described(text: str) -> tuple[str, str, Resources, int]:
    """The reverse: federation, pool, needs of a task and its slots; of a job that is not ours, nothing."""
    found = re.fullmatch(rf"{MARK} (\S+) (\S+) cpus=(\S+) gib=(\S+) slots=(\d+) gpus=(\S*)", text.strip())
    if found:
        with suppress(ValueError):  # somebody else's words
            gpus = {kind: int(count) for kind, count in (gpu.rsplit(":", 1) for gpu in found[6].split(",") if gpu)}
            return found[1], found[2], Resources.of(float(found[3]), float(found[4]), gpus), int(found[5])
    return "", "", Resources(), 1


def outcome(code: int, text: str) -> Outcome:
    """What `bsub` said of one job. Lines of a site's own submission script (esub) may stand before it."""
    submitted = _SUBMITTED.search(text)
    if submitted:
        return Accepted(submitted[1])
    said = _shortened(text)
    if _NOT_SUBMITTED in text and not _PASSING.search(text):
        return Refused(f"bsub: {said}")
    return Unknown(f"bsub ended with {code}: {said}")


def submitted(text: str) -> int:
    """How many jobs `bsub` said that it submitted."""
    return len(_SUBMITTED.findall(text))


def records_of(command: str, code: int, stdout: str, stderr: str) -> list[Mapping[str, str]]:
    """The records that `-json` prints, those that are errors left out
    (https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_command_ref/bjobs.json.1.html). Commands that wait for LSF say so before it.
    Raises Unreachable for what is no answer."""
    answer = _answer(stdout)
    if answer is None:
        if "RECORDS" not in stdout and _NO_JOBS.search(stdout + stderr):
            return []
        raise Unreachable(f"{command} ended with {code}, and what it printed is no answer: {_shortened(stderr + ' ' + stdout)}")
    try:
        records: list[Any] = answer["RECORDS"]
        return [_texts(record) for record in records if "ERROR" not in record]
    except (TypeError, AttributeError) as error:
        raise Unreachable(f"{command}: what it printed is no answer: {error}") from error


def _answer(text: str) -> Mapping[str, Any] | None:
    """The first JSON object that has records and begins a line, whatever stands around it."""
    decoder = json.JSONDecoder(strict=False)
    for found in re.finditer(r"^\s*(?=\{)", text, re.MULTILINE):
        try:
            value, _ = decoder.raw_decode(text, found.end())
        except ValueError:
            continue
        if "RECORDS" in value:
            return value  # type: ignore[no-any-return]
    return None


def _texts(record: Mapping[str, Any]) -> Mapping[str, str]:
    return {name.upper(): str(value).strip() for name, value in record.items()}


def job_of(record: Mapping[str, str]) -> Job:
    """A job of the listing. Raises Unreachable for a record that lacks a field."""
    try:
        index, name = record["JOBINDEX"], record["JOB_NAME"]
        federation, pool, per_task, slots = described(record["JOB_DESCRIPTION"])
        return Job(
            id=record["JOBID"] if index in ("", "0", "-") else f"{record['JOBID']}[{index}]",
            name=name,
            federation=federation,
            pool=pool,
            per_task=per_task,
            slots_per_task=slots,
            stat=record["STAT"],
            hosts=slots_by_host(record["EXEC_HOST"]),
            start_time=record["START_TIME"],
            finish_time=record["FINISH_TIME"],
            exit_code=record["EXIT_CODE"],
            exit_reason=record["EXIT_REASON"],
            pend_reason=record["PEND_REASON"],
        )
    except KeyError as error:
        raise Unreachable(f"bjobs: a record without {error}") from error


def slots_by_host(exec_host: str) -> dict[str, int]:
    """`16*host1:host2` as slots by host."""
    slots: dict[str, int] = {}
    for part in exec_host.split(":"):
        count, star, host = part.rpartition("*")
        if host and host != "-":
            slots[host] = slots.get(host, 0) + (int(count) if star and count.isdecimal() else 1)
    return slots


def said(stdout: bytes, stderr: bytes) -> str:
    """Both outputs as text."""
    return stdout.decode(errors="replace") + "\n" + stderr.decode(errors="replace")


def _shortened(text: str) -> str:
    return " ".join(text.split())[:400] or "it said nothing"
