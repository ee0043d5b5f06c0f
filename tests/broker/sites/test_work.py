"""Site work on the twins of store and engine: each promise by one story."""

from dataclasses import replace

import pytest

from adapters.base import Run
from adapters.twin import Behaviour
from broker.jobs.lifecycle import Accepted, Requeued, Staged
from broker.jobs.model import Ask, End, Ending, Phase, Retry, Stop
from broker.records import Health, Unresolved
from broker.store import keys as kinds
from tests.broker.sites.owner import (
    BROKERS_CLAIM,
    KEYS,
    LONG,
    NOT_UNIQUE,
    SETTINGS,
    Place,
    both,
    in_virtual_time,
    lasting,
)
from topology.resources import Resources

LOOKS_APART_S = min(SETTINGS.call_timeout_s, SETTINGS.lease_ttl_s) + NOT_UNIQUE.settling_s


@both
def test_a_placed_job_runs_once_and_its_run_is_cleared_away(capabilities):
    async def story(place: Place):
        place.twin.behave = lasting(3.0)
        await place.owner()
        place.job()
        done = await place.until_phase(Phase.SUCCEEDED)
        assert (done.attempt.native_id, done.attempt.end.exit_code) == ("1", 0)
        assert done.attempt.end.at - done.attempt.started_at == pytest.approx(3.0)
        await place.until(lambda: not place.twin.reports("fed"))
        assert place.starts() == 1

    in_virtual_time(story, capabilities)


def test_a_refusal_reaches_the_user_and_the_job_goes_elsewhere():
    async def story(place: Place):
        place.twin.behave = lambda run: Behaviour(refusal="no such queue")
        await place.owner()
        place.job("j1", Staged(0.0))
        job = await place.until_phase(Phase.PENDING)
        assert job.reason == "ams refused it: no such queue"
        assert job.attempt.end.ending is Ending.REFUSED

    in_virtual_time(story)


def test_a_failed_program_fails_its_job_with_the_exit_code():
    async def story(place: Place):
        place.twin.behave = lambda run: Behaviour(exit_code=3)
        await place.owner()
        place.job()
        job = await place.until_phase(Phase.FAILED)
        assert (job.reason, job.attempt.end.exit_code) == ("exit code 3", 3)

    in_virtual_time(story)


def test_a_running_job_is_cancelled_once_the_site_says_so():
    async def story(place: Place):
        place.twin.behave = lambda run: LONG
        await place.owner()
        place.job()
        await place.until_phase(Phase.RUNNING)
        place.cancel("j1")
        job = await place.until_phase(Phase.CANCELLED)
        assert job.reason == "cancelled by ana"
        assert not place.twin.is_live("fed-j1-a1")

    in_virtual_time(story)


@both
def test_what_was_never_accepted_is_cancelled_with_its_claim(capabilities):
    async def story(place: Place):
        place.twin.behave = lambda run: replace(LONG, arrives_after=30.0)
        owner = await place.owner()
        place.job("j1", Staged(0.0))
        await place.until(lambda: owner.adapter.calls.get("submit"))
        place.cancel("j1")
        await place.until_phase(Phase.CANCELLED, seconds=3.0)
        assert place.shelf.claims[".fed/claims/fed-j1-a1"] == BROKERS_CLAIM
        await place.until(lambda: place.twin.advance() or "fed-j1-a1" in place.twin.reports("fed"))
        await place.until(lambda: not place.twin.reports("fed"))  # it came, left, and was cleared away
        assert place.starts() == 0

    in_virtual_time(story, capabilities)


def test_a_cancel_cut_off_after_its_claim_is_completed_by_the_next_owner():
    async def story(place: Place):
        place.away = {"submit", "cancel"}
        first = await place.owner("a")
        place.job("j1", Staged(0.0))
        await place.until(lambda: first.adapter.calls.get("submit"))
        place.is_store_deaf = True
        place.cancel("j1")
        await place.until(lambda: place.shelf.claims)
        await first.crash()
        place.is_store_deaf = False
        await place.owner("b")
        await place.until_phase(Phase.CANCELLED)

    in_virtual_time(story)


def test_where_exit_and_cancel_cross_what_happened_first_stands():
    async def story(place: Place):
        place.twin.behave = lasting(2.0)
        await place.owner()
        place.job()
        await place.until_phase(Phase.RUNNING)
        place.away = {"observe", "cancel"}
        place.cancel("j1")
        await place.until(lambda: not place.twin.is_live("fed-j1-a1"))
        place.away = set()
        job = await place.until_phase(Phase.SUCCEEDED)
        assert job.attempt.end.exit_code == 0

    in_virtual_time(story)


def test_a_stopped_attempt_goes_back_to_the_queue_uncounted():
    async def story(place: Place):
        place.twin.behave = lambda run: LONG
        await place.owner()
        place.job(retry=Retry(attempts=1))
        await place.until_phase(Phase.RUNNING)
        wish = place.read(kinds.WISHES, "j1")
        place.put(KEYS.of(kinds.WISHES, "j1"), replace(wish, stop=Stop(1, Ask("planner", "ams drains", 0.0))))
        job = await place.until_phase(Phase.PENDING)
        assert (job.reason, job.attempt.end.ending) == ("attempt stopped by planner: ams drains", Ending.WITHDRAWN)

    in_virtual_time(story)


def test_a_run_that_vanished_is_never_sent_again():
    async def story(place: Place):
        place.twin.behave = lambda run: LONG
        await place.owner()
        place.job()
        await place.until_phase(Phase.RUNNING)
        place.twin.restart(loses_since=0.0)
        job = await place.until_phase(Phase.PENDING)
        assert job.attempt.end.ending is Ending.VANISHED
        assert place.starts() == 1

    in_virtual_time(story)


def test_a_start_that_found_the_runs_own_claim_says_that_the_first_start_is_gone():
    async def story(place: Place):
        place.twin.behave = lambda run: LONG
        await place.owner()
        place.job()
        await place.until_phase(Phase.RUNNING)
        place.twin.start_again("fed-j1-a1")
        job = await place.until_phase(Phase.PENDING)
        assert job.attempt.end.ending is Ending.VANISHED  # it ran, and nobody can say how it went

    in_virtual_time(story)


def test_a_start_that_found_our_claim_never_ran():
    async def story(place: Place):
        place.shelf.claims[".fed/claims/fed-j1-a1"] = BROKERS_CLAIM
        await place.owner()
        place.job()
        job = await place.until_phase(Phase.PENDING)
        assert job.attempt.end.ending is Ending.CLAIMED
        assert place.starts() == 0

    in_virtual_time(story)


def test_a_listing_that_is_not_whole_proves_nothing():
    async def story(place: Place):
        place.twin.behave = lasting(60.0)
        await place.owner()
        place.job()
        await place.until_phase(Phase.RUNNING)
        place.twin.is_whole = False  # the twin then leaves out half of one run: all
        await place.until(lambda: place.clock.now() > place.state().attempt.started_at + 50)
        assert place.state().phase is Phase.RUNNING
        place.twin.is_whole = True
        await place.until_phase(Phase.SUCCEEDED)

    in_virtual_time(story)


ALL_CALLS = {"submit", "observe", "cancel", "forget", "probe"}


def test_a_lost_site_gives_up_its_jobs_and_is_cleared_when_it_comes_back():
    async def story(place: Place):
        place.twin.behave = lambda run: LONG
        await place.owner()
        place.job("moves")
        place.job("stays", retry=Retry(reasons=()))
        await place.until_phase(Phase.RUNNING, "moves")
        await place.until_phase(Phase.RUNNING, "stays")
        gone_at = place.clock.now()
        place.away, place.shelf.is_away = ALL_CALLS, True
        job = await place.until_phase(Phase.PENDING, "moves")
        assert place.clock.now() - gone_at > SETTINGS.site_lost_after_s - 2 * SETTINGS.probe_interval_s
        assert (job.reason, job.attempt.end.ending) == ("site ams is lost", Ending.SITE_LOST)
        note = place.read(kinds.UNRESOLVED, "ams", "moves", "1")
        assert isinstance(note, Unresolved)
        assert place.state("stays").phase is Phase.RUNNING
        place.away, place.shelf.is_away = set(), False
        await place.until(lambda: place.read(kinds.UNRESOLVED, "ams", "moves", "1") is None)
        assert not place.twin.is_live("fed-moves-a1")
        assert place.twin.is_live("fed-stays-a1")
        await place.until(lambda: place.read(kinds.SITE_STATUS, "ams").health is Health.UP)

    in_virtual_time(story)


def test_a_cancel_at_a_lost_site_ends_and_is_written_down():
    async def story(place: Place):
        place.twin.behave = lambda run: LONG
        await place.owner()
        place.job()
        await place.until_phase(Phase.RUNNING)
        place.away, place.shelf.is_away = ALL_CALLS, True
        place.cancel("j1")
        await place.until_phase(Phase.CANCELLED)
        assert place.read(kinds.UNRESOLVED, "ams", "j1", "1").native_id == "1"

    in_virtual_time(story)


def test_a_stale_run_is_stopped_and_one_without_a_record_is_left_alone():
    async def story(place: Place):
        place.twin.behave = lambda run: LONG
        lost = Requeued("lost", End(1.0, Ending.SITE_LOST))
        place.job("old", Staged(0.0), Accepted(0.0, "1"), lost)
        for name in ("old", "ghost"):
            place.twin.submit(Run(f"fed-{name}-a1", "fed", name, "default", 1, Resources(1), "cpu", ("true",)))
        owner = await place.owner()
        await place.until(lambda: "fed-old-a1" not in place.twin.reports("fed"))
        await place.until(lambda: "fed-ghost-a1" in place.read(kinds.SITE_STATUS, "ams").reason)
        assert place.twin.is_live("fed-ghost-a1")
        assert owner.work.site.memory.quarantined == {"fed-ghost-a1"}

    in_virtual_time(story)


def test_an_owner_whom_the_site_calls_stale_stops_and_reports_it():
    async def story(place: Place):
        owner = await place.owner()
        place.twin.guard(owner.right.epoch + 1)
        await place.until(lambda: owner.rights.lost)
        assert owner.rights.lost[0] == owner.right

    in_virtual_time(story)


def test_an_owner_whose_right_is_anothers_writes_nothing_more():
    async def story(place: Place):
        place.twin.behave = lasting(5.0)
        first = await place.owner("a")
        place.job()
        await place.until_phase(Phase.RUNNING)
        await place.owner("b")
        await place.until_phase(Phase.SUCCEEDED)
        await place.until(lambda: first.rights.lost)

    in_virtual_time(story, NOT_UNIQUE)


def test_a_hand_over_lets_the_calls_in_flight_end():
    async def story(place: Place):
        owner = await place.owner()
        place.job()
        await place.until_phase(Phase.SUCCEEDED)
        owner.work.end()
        await place.until(lambda: all(task.done() for task in owner._tasks[1:]), 5.0)

    in_virtual_time(story)
