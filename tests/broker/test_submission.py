"""Jobs are made once, together, and never lost; on the store's twin."""

import asyncio

import pytest

from broker.clock import SystemClock
from broker.config import Settings
from broker.context import Context
from broker.errors import InConflict, Invalid, TooMany
from broker.jobs.model import JobSpec
from broker.metrics import Metrics
from broker.records import Tenant
from broker.store.base import Delete, StoreUnavailable
from broker.store.keys import Keys
from broker.store.ledger import Erase, Ledger, Save
from broker.store.memory import MemoryServer, MemoryStore
from broker.store.mirror import Mirror
from broker.store.vitals import Vitals
from broker.submission import INLINE_BYTES, MOST_SPEC_BYTES, NewJob, Request, Submissions, job_id
from broker.world import World


class Endpoint:
    """One endpoint on a server of the twin; `network` may fail requests."""

    def __init__(self, server, network=None, quota_bytes=10**9):
        self.server, clock = server, SystemClock()
        self.store = MemoryStore(server, network, timeout_s=0.2 if network else 5.0)
        mirror = Mirror(self.store, Keys("fed"), clock)
        self.world = World(mirror)
        self.context = Context(Settings(), clock, self.world, Ledger(self.store, mirror), Metrics())
        self.vitals = Vitals(self.store, clock, quota_bytes, 0.8)
        self.submissions = Submissions(self.context, self.store, self.vitals)

    def wishes(self):
        return [record.key.split("/")[-1] for record in self.server.records("/fedbroker/fed/wishes/")]

    def specs(self):
        return self.server.records("/fedbroker/fed/specs/")


@pytest.fixture
def server():
    return MemoryServer(SystemClock())


@pytest.fixture
def endpoint(server):
    return Endpoint(server)


def some(count, key=None, body_hash="body", script=None):
    jobs = [NewJob(f"n{number}", JobSpec("default", ("echo", str(number)), script=script)) for number in range(count)]
    return Request("default", "test", jobs, body_hash, key)


def alike(count):
    return Request("default", "test", [NewJob(f"n{number}", JobSpec("default", ("true",))) for number in range(count)], "body")


async def test_what_was_answered_is_stored(endpoint):
    wishes = await endpoint.submissions.create(some(20))
    assert [wish.id for wish in wishes] == sorted(endpoint.wishes())
    assert [endpoint.world.jobs[wish.id].wish.name for wish in wishes] == [f"n{number}" for number in range(20)]


@pytest.mark.parametrize("count", [1, 20])
async def test_the_same_key_makes_the_same_jobs_through_any_endpoint(server, endpoint, count):
    first = await endpoint.submissions.create(some(count, key="k"))
    again = await endpoint.submissions.create(some(count, key="k"))
    elsewhere = await Endpoint(server).submissions.create(some(count, key="k"))
    assert first == again == elsewhere
    assert len(endpoint.wishes()) == count


@pytest.mark.parametrize("count", [1, 20])
async def test_two_requests_with_one_key_at_once_make_one_set_of_jobs(server, endpoint, count):
    both = (endpoint.submissions, Endpoint(server).submissions)
    one, other = await asyncio.gather(*(each.create(some(count, key="k")) for each in both))
    assert one == other
    assert len(endpoint.wishes()) == count


async def test_a_key_is_for_one_body(endpoint):
    await endpoint.submissions.create(some(1, key="k"))
    with pytest.raises(InConflict, match="another body"):
        await endpoint.submissions.create(some(1, key="k", body_hash="other"))


@pytest.mark.parametrize("cut", range(1, 6))
async def test_a_retry_completes_what_a_crash_cut(server, cut):
    # 200 jobs: one transaction for the key, several for the jobs, one to say that they are complete; the cut-th never arrives
    sent = 0

    async def dies(operation, stage):
        nonlocal sent
        sent += operation == "commit" and stage == "send"
        if sent >= cut:
            raise StoreUnavailable("cut")

    with pytest.raises(StoreUnavailable):
        await Endpoint(server, dies).submissions.create(some(200, key="k"))
    after = Endpoint(server)
    wishes = await after.submissions.create(some(200, key="k"))
    assert sorted(after.wishes()) == sorted(wish.id for wish in wishes)
    assert await after.submissions.create(some(200, key="k")) == wishes


async def test_a_key_that_was_forgotten_meanwhile_is_not_brought_back(server):
    # 200 jobs: the key goes just before it would be said that they are complete
    key = Keys("fed").of("submissions", "default", "k")

    async def forgets(operation, stage):
        records = {record.key for record in server.records()}
        if (operation, stage) == ("get", "send") and key in records:
            server.transact([[Delete(key, None)]], None)

    endpoint = Endpoint(server, forgets)
    assert len(await endpoint.submissions.create(some(200, key="k"))) == 200
    assert server.get([key]) == [None]


async def test_a_job_that_was_deleted_is_not_made_again_by_a_late_retry(server, endpoint):
    wishes = await endpoint.submissions.create(some(20, key="k"))
    key = Keys("fed").of("wishes", wishes[0].id)
    await endpoint.context.ledger.commit([[Erase(key, endpoint.world.revision(key))]])
    await Endpoint(server).submissions.create(some(20, key="k"))
    assert len(endpoint.wishes()) == 19


async def test_repeated_and_large_specs_are_stored_once(endpoint):
    await endpoint.submissions.create(alike(50))
    assert len(endpoint.specs()) == 1
    await endpoint.submissions.create(some(2, script="x" * INLINE_BYTES))
    assert len(endpoint.specs()) == 3
    assert {job.spec.command for job in endpoint.world.jobs.values()} == {("true",), ("echo", "0"), ("echo", "1")}


async def test_a_shared_spec_is_written_anew_with_the_first_job_that_needs_it(endpoint):
    # so that a removal that was decided before, at the old revision, comes to nothing
    await endpoint.submissions.create(alike(50))
    before = endpoint.specs()[0]
    await endpoint.submissions.create(alike(50))
    after = endpoint.specs()[0]
    assert (after.value, after.created) == (before.value, before.created)
    assert after.revision > before.revision
    assert after.revision in {record.revision for record in endpoint.server.records("/fedbroker/fed/wishes/")}


async def test_a_tenant_has_no_more_pending_jobs_than_it_may(endpoint):
    keys = Keys("fed")
    await endpoint.context.ledger.commit([[Save(keys.of("tenants", "default"), Tenant("default", max_pending=30), 0)]])
    await endpoint.submissions.create(some(20))
    with pytest.raises(TooMany, match="20 pending jobs and may have 30"):
        await endpoint.submissions.create(some(11))
    await endpoint.submissions.create(some(10))


async def test_requests_under_way_count_as_pending(endpoint):
    keys = Keys("fed")
    await endpoint.context.ledger.commit([[Save(keys.of("tenants", "default"), Tenant("default", max_pending=30), 0)]])
    outcomes = await asyncio.gather(*(endpoint.submissions.create(some(20)) for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(outcome, TooMany) for outcome in outcomes) == 2


async def test_a_full_store_takes_no_new_jobs_but_answers_for_old_ones(server):
    endpoint = Endpoint(server, quota_bytes=1_000)
    wishes = await endpoint.submissions.create(some(10, key="k"))
    await endpoint.vitals.ask()
    with pytest.raises(TooMany, match="above 80%"):
        await endpoint.submissions.create(some(1))
    assert await endpoint.submissions.create(some(10, key="k")) == wishes


async def test_a_spec_too_large_is_refused_by_its_place(endpoint):
    with pytest.raises(Invalid, match=r"jobs\.0"):
        await endpoint.submissions.create(some(2, script="x" * MOST_SPEC_BYTES))
    assert not endpoint.wishes()


def test_ids_sort_by_time_then_by_place_and_are_short_labels():
    times = (1_700_000_000.0, 1_700_000_000.001, 4_000_000_000.0)
    ids = [job_id(at, "0123456789", place) for at in times for place in (0, 31, 32, 999)]
    assert ids == sorted(ids)
    assert all(len(each) == 22 and each.isalnum() and each[0] == "j" and each == each.lower() for each in ids)
