"""The shape of a job, field by field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from adapters.base import SPARK_LEAST_GIB
from broker.documents.bodies import FABRICS
from broker.documents.faults import Where, refuse, suggestion
from broker.documents.fields import (
    NAME,
    VERSION,
    Amount,
    Argument,
    Body,
    Count,
    Cpus,
    Duration,
    Environment,
    Labels,
    Name,
    Names,
    Positive,
    Texts,
    Version,
    has_half_characters,
    named_twice,
    one_of,
)
from broker.jobs.model import DEFAULT_TENANT, INFRASTRUCTURE, Ending

MOST_TASKS = 100_000
MOST_SCRIPT_BYTES = 64 * 1024
MOST_INPUTS = 18
MOST_OUTPUTS = 15
"""A placement writes one operation per input and a success two per output, and a change of the store has at most 40."""
MOST_ATTEMPTS = 100
"""All attempts of a job are in one record, which must stay well below what a change of the store may hold."""
REFERENCE = re.compile(rf"(?:{NAME.pattern}/)?{NAME.pattern}(?:@{VERSION.pattern})?")
RDMA = "rdma"
"""Any fabric that has it."""
ENDINGS = tuple(str(ending) for ending in Ending if ending not in (Ending.WITHDRAWN, Ending.CANCELLED))
"""After which another attempt may be asked for. What the broker took back is tried again anyway; what was cancelled never is."""
OBJECTIVES: Mapping[str, Mapping[str, float]] = {
    "fastest": {"hours": 1.0},
    "cheapest": {"hours": 0.001, "money": 1.0},
    "greenest": {"hours": 0.001, "carbon_kg": 1.0},
}
"""The named objectives as weights. The small weight of hours only decides between what costs or emits the same."""


def _reference(value: str) -> str:
    if not REFERENCE.fullmatch(value):
        raise ValueError("use a dataset's name, such as corpus or corpus@1")
    return value


def _script(value: str) -> str:
    if not value.strip() or "\0" in value or has_half_characters(value) or len(value.encode()) > MOST_SCRIPT_BYTES:
        raise ValueError(f"use 1 to {MOST_SCRIPT_BYTES} bytes, and no NUL; what is longer belongs into a dataset")
    return value


def _weights(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in OBJECTIVES:
        raise ValueError(f"{suggestion(value, tuple(OBJECTIVES))}; or give weights, such as {{hours: 1, money: 0.5}}")
    return dict(OBJECTIVES[value])


class GpusBody(Body):
    """GPUs per task: of which types any one will do."""

    count: Count = 0
    types: Annotated[list[Name], Field(max_length=100)] = []


class ResourcesBody(Body):
    """What each task needs."""

    cpus: Cpus = 1.0
    memory_gib: Amount = 0.5
    gpus: GpusBody = GpusBody()


class InputBody(Body):
    """A dataset to read: `corpus`, `corpus@1` or, of another tenant, `default/corpus@1`; the newest when no version is named."""

    dataset: Annotated[str, AfterValidator(_reference)] = Field(examples=["corpus"])
    version: Version | None = None

    @property
    def parts(self) -> tuple[str | None, str, str | None]:
        """Tenant, name and version, as far as they are given."""
        tenant, _, rest = self.dataset.rpartition("/")
        name, _, version = rest.partition("@")
        return tenant or None, name, version or self.version

    @model_validator(mode="after")
    def _has_one_version(self) -> Self:
        if self.version is not None and "@" in self.dataset:
            refuse((("version",), f"{self.dataset} says its version already: leave one out"))
        return self


class OutputBody(Body):
    """A dataset that the job makes; its version is the job's id."""

    dataset: Name = Field(examples=["words"])


class WeightsBody(Body):
    """Raw weights of hours, money and kg of CO2."""

    hours: Amount = 0.0
    money: Amount = 0.0
    carbon_kg: Amount = 0.0

    @model_validator(mode="after")
    def _weighs_something(self) -> Self:
        if self.hours + self.money + self.carbon_kg == 0:
            refuse(((), "weighs nothing: give at least one of hours, money and carbon_kg a weight above 0"))
        return self


class RequireBody(Body):
    """Regions or sites of which any one will do."""

    region: Texts = []
    site: Names = []


class SpreadBody(Body):
    """Of the tenant's unfinished jobs with the same word at most so many are at one site."""

    word: Name = Field(examples=["replicas"])
    per_site: Annotated[int, Field(ge=1, le=MOST_TASKS)] = 1


class SitesBody(Body):
    """Where the job may run: what it requires, and of that what it prefers. `prefer` names sites in order; the next one is looked
    at when those before have no room, or `spill_after` later."""

    require: RequireBody = RequireBody()
    exclude: Names = []
    fabric: Annotated[str, one_of(RDMA, *FABRICS)] | None = None
    file_system: Name | None = None
    prefer: Names = []
    spill_after: Duration | None = None
    affinity: Name | None = Field(default=None, examples=["pipeline-7"])
    spread: SpreadBody | None = None


class RetryBody(Body):
    """How often, and after what."""

    attempts: Annotated[int, Field(ge=1, le=MOST_ATTEMPTS)] = 3
    reasons: Annotated[list[Annotated[str, one_of(*ENDINGS)]], Field(max_length=100)] = [str(each) for each in INFRASTRUCTURE]


class SparkBody(Body):
    """A Spark application: a Python file or a jar, below the site's storage or at a URL that the site can read."""

    file: Argument = Field(examples=["apps/count.py"])
    main_class: Argument | None = None
    arguments: Annotated[list[Argument], Field(max_length=10_000)] = []
    executors: Annotated[int, Field(ge=1, le=MOST_TASKS)] = 2
    executor_cpus: Annotated[int, Field(ge=1, le=1_000)] = 1
    executor_memory_gib: Positive = 1.0
    conf: Annotated[dict[Argument, Argument], Field(max_length=1_000)] = {}


class JobBody(Body):
    """What a user submits: exactly one of `command`, `script` and `spark`. `workdir` is a dataset, named as an input is: each
    task has a copy of it as its working directory."""

    name: Name = Field(examples=["count-words"])
    tenant: Name = DEFAULT_TENANT
    command: Annotated[list[Argument], Field(min_length=1, max_length=10_000)] | None = None
    script: Annotated[str, AfterValidator(_script)] | None = None
    tasks: Annotated[int, Field(ge=1, le=MOST_TASKS)] = 1
    resources: ResourcesBody = ResourcesBody()
    inputs: Annotated[list[InputBody], Field(max_length=MOST_INPUTS)] = []
    outputs: Annotated[list[OutputBody], Field(max_length=MOST_OUTPUTS)] = []
    run_time: Duration | None = None
    walltime: Duration | None = None
    image: Annotated[Argument, Field(min_length=1, max_length=1_000)] | None = None
    spark: SparkBody | None = None
    workdir: Annotated[str, AfterValidator(_reference)] | None = None
    objective: Annotated[WeightsBody, BeforeValidator(_weights)] = WeightsBody(hours=1.0)
    max_wait: Duration | None = None
    deadline: Duration | None = None
    max_cost: Positive | None = None
    preemptible: bool = False
    checkpoint: Duration | None = None
    sites: SitesBody = SitesBody()
    retry: RetryBody = RetryBody()
    priority: Annotated[int, Field(ge=0, le=1_000_000)] = 50
    env: Environment = {}
    labels: Labels = {}

    @property
    def reads(self) -> list[tuple[Where, InputBody]]:
        """All datasets that it reads, each with the field that names it."""
        found: list[tuple[Where, InputBody]] = [(("inputs", number, "dataset"), each) for number, each in enumerate(self.inputs)]
        return [*found, *([(("workdir",), InputBody(dataset=self.workdir))] if self.workdir else [])]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        refuse(*self._objections())
        return self

    def _objections(self) -> Iterator[tuple[Where, str]]:
        given = [name for name in ("command", "script", "spark") if getattr(self, name) is not None]
        if not given:
            yield ("command",), 'is missing: add it, such as `command: [sh, -c, "echo hello"]`, or a script'
        if len(given) > 1:
            yield (given[1],), f"is given beside {given[0]}: leave one of the two out"
        if self.spark is not None and len(given) == 1:
            yield from self._spark_objections(self.spark)
        if self.command and not self.command[0]:
            yield ("command", 0), "is empty: name a program"
        yield from named_twice((each.parts[1] for each in self.inputs), "inputs", "dataset")
        yield from named_twice((each.dataset for each in self.outputs), "outputs", "dataset")
        if self.workdir and InputBody(dataset=self.workdir).parts[1] in {each.parts[1] for each in self.inputs}:
            yield ("workdir",), "is an input too: leave it out there"
        if len(self.reads) > MOST_INPUTS:
            yield ("workdir",), f"is one more than the {MOST_INPUTS} datasets that a job may read"
        for field, each in self.reads:
            owner = each.parts[0]
            if owner not in (None, self.tenant, DEFAULT_TENANT):
                readable = " and ".join(dict.fromkeys((self.tenant, DEFAULT_TENANT)))
                yield field, f"belongs to {owner}: a job of {self.tenant} reads datasets of {readable}"
        for position, name in enumerate(self.sites.require.site):
            if name in self.sites.exclude:
                yield ("sites", "require", "site", position), f"{name} is excluded too: leave it out in one of the two"
        for position, name in enumerate(self.sites.prefer):
            if name in self.sites.prefer[:position]:
                yield ("sites", "prefer", position), f"{name} is named twice: leave one out, or name another"
            if name in self.sites.exclude:
                yield ("sites", "prefer", position), f"{name} is excluded too: leave it out in one of the two"
        if self.sites.spill_after is not None and not self.sites.prefer:
            yield ("sites", "spill_after"), "is of no use without `prefer`: name the sites to wait for, or leave it out"
        if self.checkpoint is not None and not self.preemptible:
            yield ("checkpoint",), "is of no use to a job that never gives way: add `preemptible: true`, or leave it out"

    def _spark_objections(self, spark: SparkBody) -> Iterator[tuple[Where, str]]:
        if self.tasks > 1:
            yield ("tasks",), "is of no use to a Spark application: say how many executors it has"
        if self.workdir:
            yield ("workdir",), "is not to be had for a Spark application: name its files below the site's storage"
        if self.resources.gpus.count:
            yield ("resources", "gpus"), "are not to be had for a Spark application: leave them out"
        if self.resources.memory_gib < SPARK_LEAST_GIB:
            yield ("resources", "memory_gib"), f"is too little for the driver of a Spark application: give it {SPARK_LEAST_GIB:g}"
        if spark.executor_memory_gib < SPARK_LEAST_GIB:
            yield ("spark", "executor_memory_gib"), f"is too little for Spark: give it {SPARK_LEAST_GIB:g}"
        if spark.file.endswith(".jar") and not spark.main_class:
            yield ("spark", "main_class"), "is missing: a jar needs one"
