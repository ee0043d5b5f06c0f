"""What-if questions about the live federation: its state as a scenario, simulated in a process of its own, one at a time."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection

from broker.documents.whatif import WhatIfBody
from broker.errors import TooMany, Unavailable
from broker.jobs.model import shape_of
from broker.plan_desk import live_with_parent
from broker.simulator.scenario import Arrival, Maintenance, Scenario, Underway
from broker.simulator.whatif import Answer, changed, what_if
from broker.snapshot import HOLDING, Snapshots, expected_end
from topology.dataset import Replica
from topology.graph import Topology

MOST_JOBS = 20_000
"""Of those that wait: the oldest."""
MOST_S = 120.0
"""A question that takes longer is given up."""
AGAIN_S = 10.0


class WhatIfs:
    """Answers one question after the other."""

    def __init__(self) -> None:
        self._gate = asyncio.Lock()

    async def ask(self, snapshots: Snapshots, body: WhatIfBody, now: float) -> Answer:
        """What would come of the changes. Raises Invalid for one of what is not there, TooMany while another question is under
        way, and Unavailable for one that takes too long."""
        scenario = live(snapshots, now)
        other = changed(scenario, body)
        if self._gate.locked():
            raise TooMany("another what-if question is under way: ask again when it is answered", after_s=AGAIN_S)
        async with self._gate:
            return await _simulated(scenario, other)


async def _simulated(scenario: Scenario, other: Scenario) -> Answer:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_answer, args=(theirs, scenario, other), daemon=True)
    await asyncio.to_thread(process.start)
    theirs.close()
    try:
        if not await asyncio.to_thread(ours.poll, MOST_S):
            raise Unavailable(f"the simulation took more than {MOST_S:.0f} s: ask when less waits")
        answer: Answer = await asyncio.to_thread(ours.recv)
        return answer
    except EOFError as error:
        raise Unavailable("the simulation failed: the broker's log says why") from error
    finally:
        process.kill()
        await asyncio.to_thread(process.join)
        ours.close()


def _answer(to: Connection, scenario: Scenario, other: Scenario) -> None:
    """In the process."""
    live_with_parent()
    to.send(what_if(scenario, other))


def live(snapshots: Snapshots, now: float) -> Scenario:
    """The federation as it is, in seconds from now: what runs ends when it is expected to, data on its way is there, and what
    others hold at the sites stays theirs."""
    world = snapshots.world
    given, _ = snapshots.take(now)
    waiting = sorted((created, name, shape) for shape, members in world.queue(now).items() for created, name in members)
    arrivals = [Arrival(name, created - now, shape, shape.run_time_s) for created, name, shape in waiting[:MOST_JOBS]]
    begun = tuple(_underway(snapshots, now))
    inputs = {of for each in (*arrivals, *(there.arrival for there in begun)) for of in each.shape.inputs}
    replicas = [replica for of in inputs for replica in world.replicas.get(of, {}).values()]
    replicas += [Replica(booking.dataset, booking.target, "") for booking in given.bookings if booking.dataset in inputs]
    datasets = [world.datasets[of] for of in inputs if of in world.datasets]
    closed = [view.site.name for view in given.sites if view.is_lost or not view.health.takes_jobs]
    cut = f"; of {len(waiting)} that wait the {len(arrivals)} oldest" if len(arrivals) < len(waiting) else ""
    return Scenario(
        name="live",
        topology=Topology.of(world.sites.values(), world.links.values(), datasets, replicas),
        arrivals=tuple(arrivals),
        changes=tuple(Maintenance(0.0, name, float("inf")) for name in closed),
        notes=f"{len(arrivals)} jobs that wait and {len(begun)} at sites{cut}; run times as expected, nothing else is handed in",
        tenants=given.tenants,
        begun=begun,
        rooms={(view.site.name, name): room for view in given.sites for name, room in view.rooms.items()},
    )


def _underway(snapshots: Snapshots, now: float) -> Iterator[Underway]:
    world = snapshots.world
    for site in world.sites.values():
        for job in world.at(site.name, *HOLDING):
            attempt, shape = job.state.attempt, shape_of(job.spec, job.state)
            if site.pool(attempt.pool) is not None:
                arrival = Arrival(job.id, job.wish.created_at - now, shape, shape.run_time_s)
                yield Underway(arrival, site.name, attempt.pool, attempt.gpu_type, max(expected_end(job.state) - now, 0.0))
