"""The leader's loop on the store's twin: what it writes, and what it leaves alone."""

import asyncio
import multiprocessing
from dataclasses import replace

import pytest

from broker.clock import SystemClock
from broker.config import KeepFinished, Settings
from broker.context import Context
from broker.documents.job import MOST_INPUTS
from broker.housekeeping import SPEC_GRACE_S, Housekeeping
from broker.jobs.lifecycle import Requeued, fold
from broker.jobs.model import Ask, End, Ending, JobSpec, JobState, Phase, SiteRules, TaskResources, Together, Wish
from broker.members import Right
from broker.metrics import Metrics
from broker.plan_process import PlanProcess, plan_here
from broker.planner import Planner
from broker.records import Health, Holder, Pause, SiteStatus, Submission
from broker.store import keys as kinds
from broker.store.base import Compacted, Fence, Fenced, Saved
from broker.store.keys import Keys
from broker.store.ledger import Erase, Ledger, Save
from broker.store.memory import MemoryServer, MemoryStore
from broker.store.mirror import Mirror
from broker.world import World
from tests.broker.placement.worlds import a_dataset, a_link, a_view
from topology.dataset import Dataset, DatasetId, Replica
from topology.link import GIB
from topology.site import Admission

KEYS = Keys("fed")


class Leader:
    """One process that leads, over a twin of the store; another, `elsewhere`, writes to the same store unseen."""

    def __init__(self, **settings):
        self.clock = MovableClock()
        self.server = MemoryServer(self.clock)
        self.store = store = MemoryStore(self.server)
        mirror = Mirror(store, KEYS, self.clock)
        self.world = World(mirror)
        self.context = Context(Settings(**settings), self.clock, self.world, Ledger(store, mirror), Metrics())
        self.elsewhere = Ledger(store, Mirror(store, KEYS, self.clock))
        self.planner = Planner(self.context)
        self.right = None

    async def lead(self):
        """Take leadership."""
        lease = await MemoryStore(self.server).lease(3600)
        (result,) = await self.context.ledger.commit([[Save(KEYS.of(kinds.LEADER), Holder("me"), 0, lease.id)]])
        self.right = Right("", Fence(KEYS.of(kinds.LEADER), result.revision), lease)

    async def save(self, *pairs):
        """Write records, whatever is there."""
        drafts = [[Save(key, value, self.world.revision(key))] for key, value in pairs]
        assert all(isinstance(result, Saved) for result in await self.context.ledger.commit(drafts))

    async def sites(self, *views):
        """Register sites that are up, with the rooms of their views."""
        for view in views:
            name = view.site.name
            status = SiteStatus(name, Health.UP, rooms=view.rooms)
            await self.save((KEYS.of(kinds.SITES, name), view.site), (KEYS.of(kinds.SITE_STATUS, name), status))

    async def jobs(self, count, first=0, **spec):
        """Submit jobs of one class."""
        spec = JobSpec("default", ("true",), **spec)
        names = [f"j{number:04}" for number in range(first, first + count)]
        await self.save(*((wish_key(name), Wish(name, name, "default", self.clock.now(), "me", spec)) for name in names))
        return names

    async def turn(self):
        return await self.planner.turn(self.right)

    def phases(self):
        return {name: job.state.phase for name, job in self.world.jobs.items()}

    def count(self, metric, **labels):
        return self.context.metrics.registry.get_sample_value(metric, labels) or 0


class MovableClock(SystemClock):
    """The machine's clock, but for the time of day, which stands still until it is moved."""

    def __init__(self):
        self.time = 1e6

    def now(self):
        return self.time


def wish_key(job):
    return KEYS.of(kinds.WISHES, job)


def state_key(job):
    return KEYS.of(kinds.STATES, job)


async def a_job_that_needs_a_transfer(leader):
    """It does not fit ams, where its dataset is, and fits fra; with that dataset."""
    await leader.sites(a_view("ams", cpus=1), a_view("fra"))
    dataset = a_dataset()
    await leader.save(
        (KEYS.dataset(dataset), Dataset(dataset, GIB)),
        (KEYS.replica(dataset, "ams"), Replica(dataset, "ams", "corpus")),
        (KEYS.of(kinds.LINKS, "ams:fra"), a_link("ams", "fra")),
    )
    (job,) = await leader.jobs(1, inputs=(dataset,), resources=TaskResources(cpus=2))
    return job, dataset


@pytest.fixture
async def leader():
    leader = Leader()
    await leader.lead()
    return leader


async def test_a_job_without_inputs_is_placed_at_once(leader):
    await leader.sites(a_view("ams"))
    (job,) = await leader.jobs(1)
    await leader.turn()
    state = leader.world.jobs[job].state
    assert state.phase is Phase.PLACED
    assert (state.attempt.number, state.attempt.site, state.attempt.pool) == (1, "ams", "cpu")
    assert leader.count("fed_placements_total", site="ams") == 1


async def test_what_has_no_room_waits_with_a_reason_for_its_class(leader):
    # 8 cpus: of ten jobs two are left over
    await leader.sites(a_view("ams", cpus=8))
    await leader.jobs(10)
    await leader.turn()
    assert list(leader.phases().values()).count(Phase.PENDING) == 2
    (passed,) = leader.planner.reasons.values()
    assert passed.reason == "waits for ams/cpu, about 10 min: short of 1 cpus"
    await leader.turn()
    assert list(leader.phases().values()).count(Phase.PENDING) == 2


async def test_missing_inputs_are_booked_once_with_the_placement_that_needs_them(leader):
    await leader.sites(a_view("ams", cpus=1), a_view("fra"))
    dataset = a_dataset()
    await leader.save(
        (KEYS.dataset(dataset), Dataset(dataset, 36 * GIB)),
        (KEYS.replica(dataset, "ams"), Replica(dataset, "ams", "corpus")),
        (KEYS.of(kinds.LINKS, "ams:fra"), a_link("ams", "fra")),
    )
    await leader.jobs(3, inputs=(dataset,), resources=TaskResources(cpus=2))
    await leader.turn()
    assert set(leader.phases().values()) == {Phase.STAGING}
    assert leader.world.bookings["fra"][dataset].gib == 36


async def test_the_most_inputs_that_a_job_may_have_fit_one_change(leader):
    await leader.sites(a_view("ams", cpus=1), a_view("fra"))
    await leader.save((KEYS.of(kinds.LINKS, "ams:fra"), a_link("ams", "fra")))
    inputs = tuple(a_dataset(f"part-{number}") for number in range(MOST_INPUTS))
    for dataset in inputs:
        await leader.save(
            (KEYS.dataset(dataset), Dataset(dataset, GIB)), (KEYS.replica(dataset, "ams"), Replica(dataset, "ams", dataset.name))
        )
    (job,) = await leader.jobs(1, inputs=inputs, resources=TaskResources(cpus=2))
    await leader.turn()
    assert leader.phases() == {job: Phase.STAGING}
    assert set(leader.world.bookings["fra"]) == set(inputs)


async def test_a_job_whose_replica_went_meanwhile_is_left_to_the_next_turn(leader):
    await leader.sites(a_view("ams"))
    dataset = a_dataset()
    replica = KEYS.replica(dataset, "ams")
    await leader.save((KEYS.dataset(dataset), Dataset(dataset, GIB)), (replica, Replica(dataset, "ams", "corpus")))
    (job,) = await leader.jobs(1, inputs=(dataset,))

    async def lose_the_replica_while_planning(given):
        await leader.elsewhere.commit([[Erase(replica, leader.world.revision(replica))]])
        return await plan_here(given)

    leader.planner = Planner(leader.context, lose_the_replica_while_planning)
    await leader.turn()
    assert leader.phases()[job] is Phase.PENDING
    assert leader.count("fed_write_conflicts_total", writer="planner") == 1


@pytest.mark.parametrize("site", ["ams", "fra"])
async def test_nothing_is_placed_with_a_dataset_that_was_removed_meanwhile(leader, site):
    # at ams the input is there; to fra it would be brought
    await leader.sites(*(a_view(name, cpus=8 if name == site else 1) for name in ("ams", "fra")))
    dataset = a_dataset()
    await leader.save(
        (KEYS.dataset(dataset), Dataset(dataset, GIB)),
        (KEYS.replica(dataset, "ams"), Replica(dataset, "ams", "corpus")),
        (KEYS.of(kinds.LINKS, "ams:fra"), a_link("ams", "fra")),
    )
    (job,) = await leader.jobs(1, inputs=(dataset,), resources=TaskResources(cpus=2))

    async def remove_the_dataset_while_planning(given):
        await leader.elsewhere.commit([[Erase(KEYS.dataset(dataset), leader.world.revision(KEYS.dataset(dataset)))]])
        return await plan_here(given)

    leader.planner = Planner(leader.context, remove_the_dataset_while_planning)
    await leader.turn()
    assert leader.phases()[job] is Phase.PENDING
    assert leader.count("fed_write_conflicts_total", writer="planner") == 1


async def test_nothing_is_brought_from_where_it_went_meanwhile(leader):
    job, dataset = await a_job_that_needs_a_transfer(leader)

    async def lose_the_source_while_planning(given):
        made = await plan_here(given)
        replica = KEYS.replica(dataset, "ams")
        await leader.context.ledger.commit([[Erase(replica, leader.world.revision(replica))]])
        return made

    leader.planner = Planner(leader.context, lose_the_source_while_planning)
    await leader.turn()
    assert (leader.phases()[job], dict(leader.world.bookings)) == (Phase.PENDING, {})


async def test_nothing_is_brought_to_where_it_may_not_be_any_more(leader):
    job, dataset = await a_job_that_needs_a_transfer(leader)

    async def bind_it_while_planning(given):
        made = await plan_here(given)
        await leader.save((KEYS.dataset(dataset), Dataset(dataset, GIB, regions=("eu-west",))))
        return made

    leader.planner = Planner(leader.context, bind_it_while_planning)
    await leader.turn()
    assert (leader.phases()[job], dict(leader.world.bookings)) == (Phase.PENDING, {})


async def test_jobs_of_a_word_count_at_their_site_from_placement_to_end(leader):
    word = ("default", Together.AFFINITY, "w")
    await leader.sites(a_view("ams"), a_view("fra"))
    names = await leader.jobs(3, sites=SiteRules(affinity="w"))
    assert leader.world.together(word) == {}
    await leader.turn()
    ((site, count),) = leader.world.together(word).items()
    assert count == 3
    gone = Requeued("back", End(5.0, Ending.NODE_LOST))
    for name, left in zip(names, (2, 1, 0), strict=True):
        state = fold(leader.world.jobs[name].state, [gone])
        await leader.save((state_key(name), replace(state, not_before=leader.clock.now() + 3600)))
        assert leader.world.together(word) == ({site: left} if left else {})


async def test_nothing_is_placed_at_a_site_that_was_removed_meanwhile(leader):
    await leader.sites(a_view("ams"))
    (job,) = await leader.jobs(1)
    site = KEYS.of(kinds.SITES, "ams")

    async def remove_the_site_while_planning(given):
        await leader.elsewhere.commit([[Erase(site, leader.world.revision(site))]])
        return await plan_here(given)

    leader.planner = Planner(leader.context, remove_the_site_while_planning)
    await leader.turn()
    assert leader.phases()[job] is Phase.PENDING
    assert leader.count("fed_write_conflicts_total", writer="planner") == 1


async def test_nothing_is_placed_at_a_site_that_was_cordoned_meanwhile(leader):
    await leader.sites(a_view("ams"))
    (job,) = await leader.jobs(1)

    async def cordon_while_planning(given):
        made = await plan_here(given)
        cordoned = replace(leader.world.sites["ams"], admission=Admission.CORDONED)
        await leader.save((KEYS.of(kinds.SITES, "ams"), cordoned))
        return made

    leader.planner = Planner(leader.context, cordon_while_planning)
    await leader.turn()
    assert leader.phases()[job] is Phase.PENDING


async def test_a_cancel_that_crosses_the_placement_wins(leader):
    await leader.sites(a_view("ams"))
    (job,) = await leader.jobs(1)
    wish = replace(leader.world.jobs[job].wish, cancel=Ask("eva", "wrong data", 5.0))

    async def cancel_while_planning(given):
        await leader.elsewhere.commit([[Save(wish_key(job), wish, leader.world.revision(wish_key(job)))]])
        return await plan_here(given)

    leader.planner = Planner(leader.context, cancel_while_planning)
    await leader.turn()
    assert leader.phases()[job] is Phase.PENDING
    assert leader.count("fed_write_conflicts_total", writer="planner") == 1


async def test_a_pending_job_is_cancelled_on_request(leader):
    (job,) = await leader.jobs(1)
    await leader.save((wish_key(job), replace(leader.world.jobs[job].wish, cancel=Ask("eva", "wrong data", 5.0))))
    await leader.turn()
    state = leader.world.jobs[job].state
    assert (state.phase, state.reason) == (Phase.CANCELLED, "cancelled by eva: wrong data")


async def test_a_job_that_waited_too_long_fails_with_the_reason(leader):
    await leader.sites(a_view("ams", cpus=2))
    (job,) = await leader.jobs(1, resources=TaskResources(cpus=4), max_wait_s=7200)
    leader.clock.time += 7199
    await leader.turn()
    assert leader.phases()[job] is Phase.PENDING
    leader.clock.time += 1
    await leader.turn()
    state = leader.world.jobs[job].state
    assert state.phase is Phase.FAILED
    assert state.reason == "waited 2.0 h: no site can run it: ams: short of 2 cpus on each node of pool cpu"


async def test_a_job_that_comes_back_from_a_lost_site_waits_anew(leader):
    (job,) = await leader.jobs(1, max_wait_s=600)
    await leader.sites(a_view("ams"))
    await leader.turn()
    leader.clock.time += 3600
    lost = End(leader.clock.time, Ending.SITE_LOST)
    await leader.save((state_key(job), fold(leader.world.jobs[job].state, [Requeued("ams is lost", lost)])))
    await leader.save((KEYS.of(kinds.SITE_STATUS, "ams"), SiteStatus("ams", Health.DOWN, is_lost=True)))
    await leader.turn()
    assert leader.phases()[job] is Phase.PENDING


async def test_while_an_operator_has_paused_nothing_is_placed_and_a_cancel_is_done(leader):
    await leader.sites(a_view("ams"))
    await leader.save((KEYS.of(kinds.PAUSE), Pause(Ask("ada", "", 0.0))))
    waits, unwanted = await leader.jobs(2)
    wish = leader.world.jobs[unwanted].wish
    await leader.save((wish_key(unwanted), replace(wish, cancel=Ask("ada", "", 0.0))))
    await leader.turn()
    assert leader.phases() == {waits: Phase.PENDING, unwanted: Phase.CANCELLED}
    await leader.context.ledger.commit([[Erase(KEYS.of(kinds.PAUSE), leader.world.revision(KEYS.of(kinds.PAUSE)))]])
    await leader.turn()
    assert leader.phases() == {waits: Phase.PLACED, unwanted: Phase.CANCELLED}


async def test_a_leader_that_lost_its_right_places_nothing(leader):
    await leader.sites(a_view("ams"))
    (job,) = await leader.jobs(1)
    await leader.right.lease.close()
    with pytest.raises(Fenced):
        await leader.turn()
    assert leader.server.get([state_key(job)]) == [None]


async def test_news_is_planned_at_once_and_a_long_queue_in_several_turns():
    leader = Leader()
    await leader.lead()
    await leader.sites(a_view("ams", cpus=64, nodes=100))
    loop = asyncio.ensure_future(leader.planner.run(leader.right))
    mirror = asyncio.ensure_future(leader.world.mirror.run())
    async with asyncio.timeout(20):
        await leader.jobs(2500)
        changed = leader.world.signals.subscribe(kinds.STATES)
        while leader.world.count_at("ams") < 2500:
            await changed.wait()
            changed.clear()
    for task in (loop, mirror):
        task.cancel()
    await asyncio.gather(loop, mirror, return_exceptions=True)
    assert {job.state.phase for job in leader.world.jobs.values()} == {Phase.PLACED}


async def test_a_process_that_dies_is_started_again_and_plans_on(leader):
    await leader.sites(a_view("ams"))
    process = PlanProcess(leader.context.metrics)
    leader.planner = Planner(leader.context, process)
    try:
        (first,) = await leader.jobs(1)
        await leader.turn()
        for worker in multiprocessing.active_children():
            worker.kill()
            await asyncio.to_thread(worker.join)
        (second,) = await leader.jobs(1, first=1)
        await leader.turn()
    finally:
        await process.close()
    assert leader.phases() == {first: Phase.PLACED, second: Phase.PLACED}
    assert leader.count("fed_bugs_total", where="plan process") == 1


async def test_finished_jobs_go_by_age_and_by_count():
    # kept are 3, for 1 h = 3600 s: of five the first is past its hour, and the second one too many
    leader = Leader(keep_finished=KeepFinished(hours=1, count=3))
    await leader.lead()
    names = await leader.jobs(5)
    ages = (4000, 3000, 2000, 1000, 0)
    for name, age in zip(names, ages, strict=True):
        await leader.save((state_key(name), JobState(name, Phase.CANCELLED, finished_at=leader.clock.now() - age)))
    await Housekeeping(leader.context, leader.store).turn(leader.right)
    assert sorted(leader.world.jobs) == names[2:]
    assert leader.server.get([wish_key(names[0]), state_key(names[0])]) == [None, None]


async def test_the_store_forgets_what_is_further_back_than_the_settings_say():
    leader = Leader(keep_history_revisions=10)
    await leader.lead()
    for number in range(20):
        await leader.jobs(1, first=number)
    newest = leader.server.revision
    mirror = asyncio.ensure_future(leader.world.mirror.run())
    await leader.world.mirror.reached(newest)
    await Housekeeping(leader.context, leader.store).turn(leader.right)
    mirror.cancel()
    with pytest.raises(Compacted):
        await anext(leader.store.watch(KEYS.prefix, newest - 11))
    assert (await anext(leader.store.watch(KEYS.prefix, newest - 10))).revision == newest - 11


async def test_a_spec_without_jobs_goes_after_a_while_unless_it_was_written_anew(leader):
    spec = KEYS.of(kinds.SPECS, "abc")
    keeping = Housekeeping(leader.context, leader.store)
    for _ in range(2):
        await leader.save((spec, JobSpec("default")))
        await keeping.turn(leader.right)
        leader.clock.time += SPEC_GRACE_S - 1
        await keeping.turn(leader.right)
        assert leader.world.revision(spec)
    leader.clock.time += 1
    await keeping.turn(leader.right)
    assert not leader.world.revision(spec)


async def test_a_temporary_dataset_goes_once_its_time_is_over_and_no_site_has_it():
    leader = Leader(keep_temporary_hours=1.0)
    await leader.lead()
    old, new, here, kept = (DatasetId("default", name, "1") for name in ("old", "new", "here", "kept"))
    for dataset, age, is_temporary in ((old, 3601, True), (new, 3599, True), (here, 3601, True), (kept, 3601, False)):
        await leader.save((KEYS.dataset(dataset), Dataset(dataset, 1, None, leader.clock.now() - age, is_temporary)))
    await leader.save((KEYS.replica(here, "ams"), Replica(here, "ams", "there")))
    await Housekeeping(leader.context, leader.store).turn(leader.right)
    assert set(leader.world.datasets) == {new, here, kept}


async def test_an_idempotency_key_is_kept_for_a_day(leader):
    key = KEYS.of(kinds.SUBMISSIONS, "default", "k")
    await leader.save((key, Submission("default", "k", "hash", "seed", 1, leader.clock.now())))
    for hours, is_there in ((23.9, True), (0.2, False)):
        leader.clock.time += hours * 3600
        await Housekeeping(leader.context, leader.store).turn(leader.right)
        assert bool(leader.world.submissions) is is_there


async def gives_way(leader, meanwhile):
    """A best-effort job that fills the only site, once a firm one has come and been planned for; `meanwhile` is awaited between
    the plan and its writing."""
    await leader.sites(a_view("ams", cpus=1))
    (idle,) = await leader.jobs(1, preemptible=True, run_time_s=3600.0)
    await leader.turn()
    await leader.jobs(1, first=1, run_time_s=3600.0)

    async def planned(given):
        made = await plan_here(given)
        assert [eviction.job for eviction in made.evictions] == [idle]
        await meanwhile(idle)
        return made

    leader.planner = Planner(leader.context, planned)
    await leader.turn()
    return leader.world.jobs[idle]


async def test_what_is_to_give_way_is_wished_to_stop_once(leader):
    job = await gives_way(leader, lambda idle: asyncio.sleep(0))
    assert (job.wish.stop.attempt, job.wish.stop.ask.who) == (1, "the broker")
    assert leader.count("fed_evictions_total", site="ams") == 1
    leader.planner = Planner(leader.context)
    await leader.turn()
    assert leader.count("fed_evictions_total", site="ams") == 1


async def test_what_was_placed_anew_meanwhile_is_not_stopped(leader):
    async def requeued(idle):
        state = leader.world.jobs[idle].state
        end = End(leader.clock.now(), Ending.NODE_LOST)
        await leader.save((state_key(idle), fold(state, [Requeued("lost", end)])))

    job = await gives_way(leader, requeued)
    assert job.wish.stop is None
    assert leader.count("fed_evictions_total", site="ams") == 0
