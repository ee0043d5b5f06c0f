"""Hard rules, one small function each: an objection in words, or None."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from broker.jobs.model import IMAGES, SPARK, Shape
from broker.placement.view import SiteView
from broker.placement.words import number_of_money, sum_of_money
from topology.dataset import Dataset
from topology.resources import Resources
from topology.site import Admission, Pool, Site


class Kind(StrEnum):
    """What an objection is about."""

    NAME = "name"
    REGION = "region"
    REFUSED = "refused"
    FABRIC = "fabric"
    FILE_SYSTEM = "file-system"
    ENGINE = "engine"
    GPU_TYPE = "gpu-type"
    NODE_SIZE = "node-size"
    POOL_SIZE = "pool-size"
    NO_SOURCE = "no-source"
    COST = "cost"
    RESIDENCY = "residency"
    TOGETHER = "together"
    ADMISSION = "admission"
    HEALTH = "health"
    LINK_BUSY = "link-busy"
    QUOTA = "quota"

    @property
    def is_lasting(self) -> bool:
        """Whether it stands until somebody changes the job or the federation; the others pass."""
        return self not in (Kind.ADMISSION, Kind.HEALTH, Kind.LINK_BUSY, Kind.QUOTA, Kind.TOGETHER)


@dataclass(frozen=True, slots=True)
class Objection:
    """One rule's no. `help` says what would end it; empty when only another job would do."""

    kind: Kind
    text: str
    help: str = ""


def is_named(shape: Shape, view: SiteView) -> Objection | None:
    """The job names its sites, and this must be one of them; or it excludes this one."""
    names, name = shape.sites.names, view.site.name
    if names and name not in names:
        return Objection(Kind.NAME, f"is not {_any_of(names)}, as the job requires")
    if name in shape.sites.exclude:
        return Objection(Kind.NAME, "is excluded by the job")
    return None


def is_in_region(shape: Shape, view: SiteView) -> Objection | None:
    """The site lies in one of the regions that the job requires."""
    regions, region = shape.sites.regions, view.site.region
    if not regions or region in regions:
        return None
    return Objection(Kind.REGION, f"region is {region or 'not declared'}, not {_any_of(regions)}")


def has_not_refused(shape: Shape, view: SiteView) -> Objection | None:
    """No earlier attempt of the job was refused here."""
    if view.site.name not in shape.refused_by:
        return None
    return Objection(Kind.REFUSED, "refused an earlier attempt")


def has_fabric(shape: Shape, view: SiteView) -> Objection | None:
    """The nodes are connected as the job asks; `rdma` is any fabric that has it."""
    wanted, fabric = shape.sites.fabric, view.site.fabric
    if wanted is None or fabric == wanted or (wanted == "rdma" and fabric.has_rdma):
        return None
    return Objection(Kind.FABRIC, f"fabric is {fabric}, not {wanted}")


def has_file_system(shape: Shape, view: SiteView) -> Objection | None:
    """The storage has the file system that the job asks for."""
    wanted, have = shape.sites.file_system, view.site.storage.file_systems
    if wanted is None or wanted in have:
        return None
    return Objection(Kind.FILE_SYSTEM, f"file system is {_any_of(have) if have else 'not declared'}, not {wanted}")


def has_engine(shape: Shape, view: SiteView) -> Objection | None:
    """The engine takes what the job is made of."""
    missing = [_NEEDS[need] for need in shape.needs if need not in view.takes]
    if not missing:
        return None
    return Objection(Kind.ENGINE, f"its engine, {view.site.engine.kind}, takes no {' and no '.join(missing)}")


def is_open(shape: Shape, view: SiteView) -> Objection | None:
    """The site takes new jobs."""
    match view.site.admission:
        case Admission.OPEN:
            return None
        case Admission.CORDONED:
            return Objection(Kind.ADMISSION, "is cordoned", f"uncordon {view.site.name}")
        case Admission.DRAINING | Admission.FINISHING:
            return Objection(Kind.ADMISSION, "is draining", f"uncordon {view.site.name}")


def is_healthy(shape: Shape, view: SiteView) -> Objection | None:
    """Probes say that it works."""
    name, because = view.site.name, f": {view.reason}" if view.reason else ""
    if view.is_lost:
        return Objection(Kind.HEALTH, f"is lost{because}", f"bring {name} back")
    if view.health.takes_jobs:
        return None
    return Objection(Kind.HEALTH, f"health is {view.health}{because}", f"{name} to be up")


def has_gpu_type(shape: Shape, site: Site, pool: Pool, gpu_type: str | None) -> Objection | None:
    """The pool has GPUs of a type that the job takes."""
    gpus = shape.resources.gpus
    if not gpus.count or gpu_type is not None:
        return None
    wanted = f"{_any_of(gpus.types)} GPUs" if gpus.types else "GPUs"
    return Objection(Kind.GPU_TYPE, f"no {wanted} in pool {pool.name}", f"{wanted} at {site.name}")


def fits_node(shape: Shape, site: Site, pool: Pool, gpu_type: str | None) -> Objection | None:
    """A task fits an empty node."""
    short = shape.resources.on(gpu_type).shortfall(pool.per_node)
    if short == Resources():
        return None
    text = f"short of {short} on each node of pool {pool.name}"
    return Objection(Kind.NODE_SIZE, text, f"nodes with {short} more at {site.name}")


def fits_pool(shape: Shape, site: Site, pool: Pool, gpu_type: str | None) -> Objection | None:
    """All tasks fit the empty pool at once."""
    fit = pool.empty.fit(shape.resources.on(gpu_type))
    if fit >= shape.tasks:
        return None
    text = f"pool {pool.name} holds {fit} of {shape.tasks} tasks when empty"
    return Objection(Kind.POOL_SIZE, text, f"nodes for {shape.tasks - fit} more tasks at {site.name}")


def is_too_dear(most: float, money: float, currency: str) -> Objection:
    """To run a job there costs so much at the least, and it may cost `most`."""
    text = f"costs {sum_of_money(money, currency)}, more than the {number_of_money(most)} that the job may"
    return Objection(Kind.COST, text, f"a max_cost of {number_of_money(money)}")


def may_not_enter(dataset: Dataset) -> Objection:
    """An input is not there, and may not be brought there."""
    return Objection(Kind.RESIDENCY, f"{dataset.id} may only be brought to {_any_of(dataset.regions)}")


_NEEDS = {IMAGES: "container images", SPARK: "Spark applications"}

SiteRule = Callable[[Shape, SiteView], Objection | None]
PoolRule = Callable[[Shape, Site, Pool, str | None], Objection | None]

LASTING_RULES: tuple[SiteRule, ...] = (is_named, is_in_region, has_engine, has_not_refused, has_fabric, has_file_system)
PASSING_RULES: tuple[SiteRule, ...] = (is_open, is_healthy)
POOL_RULES: tuple[PoolRule, ...] = (has_gpu_type, fits_node, fits_pool)
"""In this order; the first objection of a pool speaks for it."""


def site_objections(shape: Shape, view: SiteView, rules: tuple[SiteRule, ...]) -> tuple[Objection, ...]:
    """What the rules say against a site as a whole."""
    return tuple(objection for rule in rules if (objection := rule(shape, view)))


def pool_objection(shape: Shape, site: Site, pool: Pool, gpu_type: str | None) -> Objection | None:
    """The first rule that a pool, with tasks on GPUs of one type, breaks."""
    return next((objection for rule in POOL_RULES if (objection := rule(shape, site, pool, gpu_type))), None)


def gpu_types(shape: Shape, pool: Pool) -> tuple[str | None, ...]:
    """The GPU types of a pool that the job takes; (None,) for a job without GPUs, and for one that finds none here."""
    gpus = shape.resources.gpus
    if not gpus.count:
        return (None,)
    return tuple(kind for kind, _ in pool.per_node.gpus if not gpus.types or kind in gpus.types) or (None,)


def _any_of(names: tuple[str, ...]) -> str:
    return " or ".join(names)
