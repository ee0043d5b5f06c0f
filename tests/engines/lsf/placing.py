"""Which hosts a job gets: slots, cores, memory and GPUs, by `-n`, `-R`, `-gpu`, `-m` and `-x`.

IBM, LSF 10.1: "Span string" (hosts=1, ptile, block), "Usage string" (rusage), "bsub -gpu" (num, gmodel, j_exclusive).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from tests.engines.lsf.records import ON_HOSTS, Config, Host, Job
from tests.engines.lsf.resreq import BadRequirement, Requirement, parse, selects

UNHEEDED = ("mode", "j_exclusive", "mps", "aff", "block", "gpack", "gmem", "gvendor", "nvlink", "glink", "gtile")
"""Words of `-gpu` that change nothing here."""


@dataclass
class Load:
    """What is taken on a host."""

    slots: int = 0
    cores: int = 0
    mem_mb: float = 0.0
    gpus: set[int] = field(default_factory=set)
    is_exclusive: bool = False


@dataclass(frozen=True)
class Gpus:
    """What `-gpu` asks for."""

    count: int = 0
    per_task: bool = False
    model: str = ""

    @staticmethod
    def of(text: str, requirement: Requirement) -> Gpus:
        """Read `num=2/task:gmodel=...:mode=...`; `-` is the default, one for each host. Raises BadRequirement."""
        if not text:
            return Gpus(requirement.ngpus)
        count, per_task, model = 1, False, ""
        for item in [] if text == "-" else text.split(":"):
            name, _, value = item.strip().partition("=")
            if name == "num":
                number, _, per = value.partition("/")
                if not number.isdecimal():
                    raise BadRequirement(text)
                count, per_task = int(number), per == "task"
            elif name == "gmodel":
                model = value
            elif name not in UNHEEDED:
                raise BadRequirement(text)
        return Gpus(count, per_task, model)

    def fits(self, model: str) -> bool:
        """Whether a GPU of this model will do: `gmodel` is its whole name or a part of it, such as the brand."""
        return self.model.lower() in model.lower()


def requirement_of(job: Job, config: Config) -> Requirement:
    """What the job's `-R` strings come to. Raises BadRequirement."""
    return _parsed(tuple(job.requirements), config.unit, config.reserve_per_task)


@lru_cache(1000)
def _parsed(texts: tuple[str, ...], unit: str, per_task: bool) -> Requirement:
    return parse(texts, unit, per_task)


def loads(config: Config, jobs: Iterable[Job]) -> dict[str, Load]:
    """What the jobs that are on hosts take there."""
    taken = {host.name: Load() for host in config.hosts}
    for job in jobs:
        if job.state in ON_HOSTS:
            add(taken, job, requirement_of(job, config))
    return taken


def add(taken: Mapping[str, Load], job: Job, requirement: Requirement) -> None:
    """Count a job that is on hosts."""
    for name, slots in job.hosts:
        load = taken[name]
        load.slots += slots
        load.cores += slots * requirement.cores
        load.mem_mb += _memory(requirement, slots, job.slots)
        load.gpus |= set(job.gpus.get(name, []))
        load.is_exclusive |= job.is_exclusive


def place(
    job: Job, config: Config, taken: Mapping[str, Load], shut: Collection[str]
) -> tuple[list[tuple[str, int]], dict[str, list[int]]] | str:
    """The job's slots by host and its GPUs, or why it must wait, in words of PEND_REASON. `shut` are hosts that take no jobs."""
    queue = config.queue(job.queue)
    hosts = config.hosts_of(queue) if queue else ()
    requirement = requirement_of(job, config)
    gpus = Gpus.of(job.gpu, requirement)
    if job.hosts_asked:
        hosts = tuple(host for host in hosts if {host.name, host.group} & set(job.hosts_asked))
    open_hosts = [host for host in hosts if host.name not in shut and _is_selected(host, requirement, taken[host.name])]
    if not open_hosts:
        return "There are no suitable hosts for the job;"
    left, chosen, devices = job.slots, [], {}
    for host in open_hosts:
        slots = min(_most(job, requirement, gpus, host, taken[host.name], left), left)
        if requirement.one_host and slots < job.slots:
            continue
        if requirement.ptile:
            slots = 0 if slots < min(requirement.ptile, left) else min(requirement.ptile, left)
        if requirement.block:
            slots -= slots % requirement.block
        if slots:
            chosen.append((host.name, slots))
            devices[host.name] = _free_gpus(gpus, host, taken[host.name])[: gpus.count * (slots if gpus.per_task else 1)]
            left -= slots
        if not left:
            return chosen, {name: ids for name, ids in devices.items() if ids}
    return "Not enough job slot(s) while the job is pending;" if job.slots > 1 else "Job slot limit reached;"


def _most(job: Job, requirement: Requirement, gpus: Gpus, host: Host, load: Load, left: int) -> int:
    """The most slots that the host could give now."""
    if load.is_exclusive or (job.is_exclusive and load.slots):
        return 0
    most = min(host.slots - load.slots, (host.slots - load.cores) // requirement.cores, left)
    while most > 0 and _memory(requirement, most, job.slots) > host.mem_mb - load.mem_mb + 1e-6:
        most -= 1
    if gpus.count:
        free = len(_free_gpus(gpus, host, load))
        most = min(most, free // gpus.count) if gpus.per_task else most if free >= gpus.count else 0
    return max(most, 0)


def _memory(requirement: Requirement, slots: int, of_slots: int) -> float:
    """MB that so many slots of the job reserve on one host."""
    if requirement.mem_per == "task":
        return requirement.mem_mb * slots
    return requirement.mem_mb * slots / of_slots if requirement.mem_per == "job" else requirement.mem_mb


def _free_gpus(gpus: Gpus, host: Host, load: Load) -> list[int]:
    return [number for number, model in enumerate(host.gpus) if number not in load.gpus and gpus.fits(model)]


def _is_selected(host: Host, requirement: Requirement, load: Load) -> bool:
    values: dict[str, str | float | bool] = {
        "hname": host.name, "type": "X86_64", "model": "standin", "ncpus": host.slots, "maxmem": host.mem_mb,
        "mem": host.mem_mb - load.mem_mb, "slots": host.slots - load.slots, "ngpus": len(host.gpus), "status": "ok",
        "ngpus_physical": len(host.gpus), "gpu": bool(host.gpus), host.group: True,
    }  # fmt: skip
    return all(selects(text, values) for text in requirement.selections)
