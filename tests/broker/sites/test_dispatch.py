"""Submission by the twins of store and engine: each promise by one story."""

import asyncio

from adapters.base import Run
from adapters.twin import Behaviour
from broker.jobs.lifecycle import Staged
from broker.jobs.model import Phase
from broker.sites.dispatch import BATCH
from tests.broker.sites.owner import IDS_FIRST, NOT_UNIQUE, SETTINGS, UNIQUE, Place, both, in_virtual_time, lasting

LOOKS_APART_S = min(SETTINGS.call_timeout_s, SETTINGS.lease_ttl_s) + NOT_UNIQUE.settling_s


@both
def test_after_a_crash_between_submit_and_write_one_run_is_left(capabilities):
    async def story(place: Place):
        place.twin.behave = lasting(5.0)
        first, place.deaf_from = await place.owner("a"), "submit"
        place.job("j1", Staged(0.0))
        await place.until(lambda: place.is_store_deaf)
        await first.crash()
        place.is_store_deaf, place.deaf_from = False, ""
        assert place.state().phase is Phase.PLACED
        await place.owner("b")
        done = await place.until_phase(Phase.SUCCEEDED)
        assert len(done.attempts) == 1
        assert place.starts() == 1

    in_virtual_time(story, capabilities)


def test_an_id_that_the_site_gives_first_is_stored_before_it_is_used():
    async def story(place: Place):
        place.twin.behave = lasting(5.0)
        first, place.deaf_from = await place.owner("a"), "reserve"
        place.job("j1", Staged(0.0))
        await place.until(lambda: place.is_store_deaf)
        await first.crash()
        assert (place.state().attempt.native_id, place.starts()) == (None, 0)
        place.is_store_deaf, place.deaf_from = False, "submit"
        second = await place.owner("b")
        await place.until(lambda: place.is_store_deaf)
        await second.crash()
        stored = place.state()
        assert (stored.phase, stored.attempt.native_id, place.starts()) == (Phase.PLACED, "2", 1)
        place.is_store_deaf, place.deaf_from = False, ""
        await place.owner("c")
        done = await place.until_phase(Phase.SUCCEEDED)
        assert (done.attempt.native_id, len(done.attempts), place.starts()) == ("2", 1, 1)

    in_virtual_time(story, IDS_FIRST)


def test_what_the_store_did_not_take_is_written_later_without_a_second_submit():
    async def story(place: Place):
        place.twin.behave = lasting(5.0)
        owner, place.deaf_from = await place.owner(), "submit"
        place.job("j1", Staged(0.0))
        await place.until(lambda: place.is_store_deaf)
        await asyncio.sleep(20.0)
        assert place.state().phase is Phase.PLACED
        place.is_store_deaf, place.deaf_from = False, ""
        await place.until_phase(Phase.SUCCEEDED)
        assert owner.adapter.calls["submit"] == 1

    in_virtual_time(story, NOT_UNIQUE)


def test_a_lost_answer_is_looked_for_twice_before_the_run_is_sent_again():
    async def story(place: Place):
        owner = await place.owner()
        place.away = {"submit"}
        place.job("j1", Staged(0.0))
        await place.until(lambda: owner.adapter.calls.get("submit"))
        place.away = set()
        failed_at = place.clock.now()
        await place.until_phase(Phase.SUCCEEDED)
        assert owner.adapter.calls["submit"] == 2
        assert place.twin.starts[0].at - failed_at >= LOOKS_APART_S

    in_virtual_time(story, NOT_UNIQUE)


def test_where_names_are_unique_it_is_sent_again_at_once():
    async def story(place: Place):
        owner = await place.owner()
        place.lost_replies = {"submit"}
        place.job("j1", Staged(0.0))
        await place.until(lambda: owner.adapter.calls.get("submit", 0) > 1)
        place.lost_replies = set()
        await place.until_phase(Phase.SUCCEEDED)
        assert place.starts() == 1

    in_virtual_time(story, UNIQUE)


@both
def test_a_submission_that_arrives_late_starts_nothing_twice(capabilities):
    async def story(place: Place):
        arrivals = iter([Behaviour(seconds=30, arrives_after=20.0)])
        place.twin.behave = lambda run: next(arrivals, Behaviour(seconds=30))
        await place.owner()
        place.job("j1", Staged(0.0))
        done = await place.until_phase(Phase.SUCCEEDED)
        assert len(done.attempts) == 1
        assert place.starts() == 1
        await place.until(lambda: not place.twin.reports("fed"))

    in_virtual_time(story, capabilities)


def test_a_thousand_jobs_take_few_calls():
    async def story(place: Place):
        owner = await place.owner()
        for number in range(1000):
            place.job(f"j{number}")
        await place.until(lambda: all(place.state(f"j{number}").phase is Phase.SUCCEEDED for number in range(1000)))
        assert owner.adapter.calls["submit"] <= 4
        assert len(place.twin.starts) == 1000

    in_virtual_time(story)


def test_what_is_asked_to_end_while_one_batch_is_sent_is_left_out_of_the_next():
    async def story(place: Place):
        sent, names = [], [f"j{number:04}" for number in range(BATCH + 1)]

        def behave(run: Run) -> Behaviour:
            if not sent:
                place.cancel(names[-1])
            sent.append(run.job)
            return Behaviour()

        place.twin.behave = behave
        for name in names:
            place.job(name)
        await place.owner()
        await place.until_phase(Phase.CANCELLED, names[-1])
        assert sorted(sent) == names[:-1]

    in_virtual_time(story)
