"""What-if questions about the live federation: its state as a scenario, simulated in a process of its own, one at a time."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection

from broker.documents.whatif import WhatIfBody
from broker.errors import TooMany, Unavailable
from broker.jobs.model import Phase, shape_of
from broker.plan_desk import live_with_parent
from broker.simulator.changes import changed
from broker.simulator.live import live
from broker.simulator.scenario import Arrival, Scenario, Underway
from broker.simulator.whatif import Answer, what_if
from broker.snapshot import HOLDING, Snapshots, expected_end
from broker.world import World

MOST_S = 120.0
"""A question that takes longer is given up."""
AGAIN_S = 10.0
NICENESS = 10


class WhatIfs:
    """Answers one question after the other, each within `most_s` or not at all."""

    def __init__(self, most_s: float = MOST_S) -> None:
        self._gate = asyncio.Lock()
        self._most_s = most_s

    async def ask(self, snapshots: Snapshots, body: WhatIfBody, now: float) -> Answer:
        """What would come of the changes. Raises Invalid for one of what is not there, TooMany while another question is under
        way, and Unavailable for one that takes too long."""
        if self._gate.locked():
            raise TooMany("another what-if question is under way: ask again when it is answered", after_s=AGAIN_S)
        async with self._gate:
            scenario = _live(snapshots, now)
            return await _simulated(scenario, changed(scenario, body), self._most_s)


async def _simulated(scenario: Scenario, other: Scenario, most_s: float) -> Answer:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_answer, args=(theirs, scenario, other), daemon=True)
    try:
        await asyncio.to_thread(process.start)
        theirs.close()
        if not await asyncio.to_thread(ours.poll, most_s):
            raise Unavailable(f"the simulation took more than {most_s:.0f} s: ask when less waits")
        answer: Answer = await asyncio.to_thread(ours.recv)
        return answer
    except EOFError as error:
        raise Unavailable("the simulation failed: the broker's log says why") from error
    finally:
        if process.pid is not None:
            process.kill()
            await asyncio.to_thread(process.join)
        theirs.close()
        ours.close()


def _answer(to: Connection, scenario: Scenario, other: Scenario) -> None:
    """In the process, which leaves the processors to whatever else is to be done."""
    live_with_parent()
    os.nice(NICENESS)
    to.send(what_if(scenario, other))


def _live(snapshots: Snapshots, now: float) -> Scenario:
    """The federation as it is."""
    world = snapshots.world
    given, _ = snapshots.take(now)
    queue, at_sites = world.queue(now), list(_at_sites(world))
    inputs = {of for shape in queue for of in shape.inputs} | {of for there in at_sites for of in there.arrival.shape.inputs}
    topology = snapshots.topology(inputs | {booking.dataset for booking in given.bookings})
    return live(replace(given, topology=topology), queue, at_sites, snapshots.usage.half_life_s)


def _at_sites(world: World) -> Iterator[Underway]:
    """Those that run, and then those that wait there, by how near to their start they are."""
    for site in world.sites.values():
        for job in world.at(site.name, *reversed(HOLDING)):
            attempt, shape = job.state.attempt, shape_of(job.spec, job.state)
            if site.pool(attempt.pool) is not None:
                arrival = Arrival(job.id, job.wish.created_at, shape, shape.run_time_s)
                ends_at = expected_end(job.state) if job.state.phase is Phase.RUNNING else None
                yield Underway(arrival, site.name, attempt.pool, attempt.gpu_type, ends_at)
