"""What running somewhere would take: staging, run time, money, carbon. Waiting is the pool's part (`pools.py`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from broker.jobs.model import Cost, Shape
from broker.placement.filters import Kind, Objection
from broker.placement.shares import LEAST_SHARE, Shares, expected_end
from broker.placement.words import span
from broker.records import Booking
from topology.dataset import DatasetId
from topology.graph import Topology
from topology.site import Pool, Site
from topology.transfer import Transfer, cheapest_transfer

SMALLEST_GIB = 2**-20
"""What a dataset of no, or of unknown, size counts where transfers divide a link among them: 1 KiB."""


@dataclass(frozen=True, slots=True)
class Staging:
    """What bringing a class's missing inputs to a site takes: transfers under way that it shares, and new ones."""

    hours: float = 0.0
    money: float = 0.0
    shared: tuple[Booking, ...] = ()
    new: tuple[Booking, ...] = ()

    @property
    def bookings(self) -> tuple[Booking, ...]:
        """All that must end before a job can start."""
        return (*self.shared, *self.new)


NOTHING_MISSING = Staging()


def run_hours(shape: Shape, pool: Pool) -> float:
    """The expected run time on a pool of this speed."""
    return shape.run_time_s / pool.speed / 3600


def cost_without_wait(shape: Shape, site: Site, pool: Pool, gpu_type: str | None, staging: Staging) -> Cost:
    """The cost of one job that starts as soon as its inputs are there.

    Money is hours * tasks * (cpus * price of a cpu + GPUs * price of that GPU) and egress; carbon is the power of the
    busy cpus and GPUs: W * h / 1000 = kWh, times g per kWh / 1000 = kg.
    """
    hours, each = run_hours(shape, pool), shape.resources
    gpus = each.gpus.count if gpu_type else 0
    gpu_price = site.price.gpu_hour.get(gpu_type, 0.0) if gpu_type else 0.0
    watts = shape.tasks * (each.cpus * pool.power.cpu_w + gpus * pool.power.gpu_w)
    return Cost(
        staging_hours=staging.hours,
        run_hours=hours,
        compute_money=hours * shape.tasks * (each.cpus * site.price.cpu_hour + gpus * gpu_price),
        egress_money=staging.money,
        carbon_kg=watts * hours / 1000 * site.carbon_g_per_kwh / 1000,
    )


def staging(shape: Shape, site: str, topology: Topology, shares: Shares, now: float) -> Staging | Objection:
    """How the inputs that are not at the site get there, all at once, over the cheapest routes with what is free on them.

    A transfer that is under way costs the time it still takes and no money: it is paid for. New ones that cross the same link
    divide what is free by their sizes, so that they end together.
    """
    missing = [dataset for dataset in shape.inputs if site not in topology.replica_sites(dataset)]
    if not missing:
        return NOTHING_MISSING
    shared = tuple(booking for dataset in missing if (booking := shares.bookings.get((dataset, site))))
    absent = [dataset for dataset in missing if (dataset, site) not in shares.bookings]
    found = [_transfer(dataset, site, shape, topology, shares, now) for dataset in absent]
    transfers = [transfer for transfer in found if isinstance(transfer, Transfer)]
    if len(transfers) < len(found):
        return next(objection for objection in found if isinstance(objection, Objection))
    new = _booked(transfers, shares, now)
    ends = [max((expected_end(booking) - now) / 3600, 0.0) for booking in (*shared, *new)]
    return Staging(max(ends), sum(transfer.money for transfer in transfers), shared, new)


def _transfer(
    dataset: DatasetId, site: str, shape: Shape, topology: Topology, shares: Shares, now: float
) -> Transfer | Objection:
    sources = topology.replica_sites(dataset)
    if not sources:
        return Objection(Kind.NO_SOURCE, f"{dataset} is at no site", f"a replica of {dataset}")
    hours, money = shape.objective.hours, shape.objective.money
    weights = (hours, money) if hours or money else (1.0, 0.0)
    transfer = cheapest_transfer(topology, dataset, site, shares.free_gbps, *weights)
    if transfer and _is_wide(transfer, shares):
        return transfer
    empty = cheapest_transfer(topology, dataset, site, None, *weights)
    if empty is None:
        return Objection(Kind.NO_SOURCE, f"no route brings {dataset} here", f"links to {site} from {' or '.join(sources)}")
    link = min((link.name for link in empty.route.links), key=lambda name: shares.free_gbps[name])
    until = max(shares.busy_until.get(link, now) - now, 0.0) / 3600
    return Objection(Kind.LINK_BUSY, f"link {link} is booked for about {span(until)} more", f"more bandwidth on link {link}")


def _is_wide(transfer: Transfer, shares: Shares) -> bool:
    """Whether the least share of the route's narrowest link is free all along."""
    return transfer.share_gbps >= LEAST_SHARE * transfer.route.bottleneck_gbps


def _booked(transfers: Sequence[Transfer], shares: Shares, now: float) -> tuple[Booking, ...]:
    """A booking for each transfer: all that is free on its route, divided with the others by size."""
    load: dict[str, float] = defaultdict(float)
    for transfer in transfers:
        for link in transfer.route.links:
            load[link.name] += max(transfer.gib, SMALLEST_GIB)
    bookings = []
    for transfer in transfers:
        names = tuple(link.name for link in transfer.route.links)
        share = min(shares.free_gbps[name] * max(transfer.gib, SMALLEST_GIB) / load[name] for name in names)
        bookings.append(Booking(transfer.dataset, transfer.source, transfer.target, names, share, transfer.gib, now))
    return tuple(bookings)


