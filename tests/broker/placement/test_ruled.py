"""What limits and preferences promise of any plan, in whole and in parts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.jobs.model import Shape, Together
from broker.placement.assign import plan
from broker.placement.companions import Companions, groups_after
from broker.placement.explain import why
from broker.placement.grouping import grouped
from broker.placement.memory import Memory
from broker.placement.merging import plan_in_parts
from broker.placement.view import Plan, PlanInput
from tests.broker.placement.drawn import greedy, rooms_after, ruled_worlds


def in_parts(world: PlanInput) -> Plan:
    return plan_in_parts(world, grouped(world, 2), lambda parts: [plan(part) for part in parts])


whole_and_in_parts = pytest.mark.parametrize("planned", [plan, in_parts])


def sites_of(made: Plan) -> dict[Shape, list[str]]:
    """For each class the site of each job that was placed, oldest first."""
    found = defaultdict(list)
    for placement in made.placements:
        found[placement.shape] += [placement.site] * placement.count
    return found


def members(world: PlanInput, made: Plan, rule: Together) -> dict[tuple[str, str], Counter[str]]:
    """By tenant and word: who is at which site, with what was placed."""
    found = defaultdict(Counter)
    for group in world.groups:
        if group.rule is rule:
            found[group.tenant, group.word].update(group.at)
    for shape, sites in sites_of(made).items():
        for of, word in shape.sites.words:
            if of is rule:
                found[shape.tenant, word].update(sites)
    return found


@whole_and_in_parts
@given(ruled_worlds())
@settings(max_examples=120, deadline=None)
def test_nothing_is_placed_twice_or_beyond_room_and_what_waits_has_a_reason(planned, world):
    made = planned(world)
    rooms_after(world, made.placements)
    placed = sites_of(made)
    for queued in world.classes:
        assert (len(placed[queued.shape]) < queued.count) == (queued.shape in made.passed)
        assert queued.shape not in made.passed or made.passed[queued.shape].reason


@whole_and_in_parts
@given(ruled_worlds())
@settings(max_examples=120, deadline=None)
def test_nothing_is_brought_where_it_may_not_be(planned, world):
    made = planned(world)
    for booking in {*made.bookings, *(each for placement in made.placements for each in placement.bookings)}:
        assert world.topology.datasets[booking.dataset].may_enter(world.topology.sites[booking.target].region)


@whole_and_in_parts
@given(ruled_worlds())
@settings(max_examples=120, deadline=None)
def test_no_job_is_expected_to_cost_more_than_it_may(planned, world):
    for placement in planned(world).placements:
        if placement.shape.max_cost is not None:
            assert placement.decision.cost.money <= placement.shape.max_cost + 1e-6


@whole_and_in_parts
@given(ruled_worlds())
@settings(max_examples=120, deadline=None)
def test_jobs_of_one_word_are_at_one_site(planned, world):
    assert all(len(at) <= 1 for at in members(world, planned(world), Together.AFFINITY).values())


@whole_and_in_parts
@given(ruled_worlds())
@settings(max_examples=120, deadline=None)
def test_no_more_jobs_of_one_word_come_to_a_site_than_each_of_them_bears(planned, world):
    made = planned(world)
    before, after = members(world, Plan(), Together.SPREAD), members(world, made, Together.SPREAD)
    bears = defaultdict(int)
    for shape, sites in sites_of(made).items():
        spread = shape.sites.spread
        for site in set(sites) if spread else ():
            assert before[shape.tenant, spread.word][site] < spread.per_site
            bears[shape.tenant, spread.word, site] = max(bears[shape.tenant, spread.word, site], spread.per_site)
    for (*word, site), most in bears.items():
        assert after[tuple(word)][site] <= most


@whole_and_in_parts
@given(ruled_worlds())
@settings(max_examples=120, deadline=None)
def test_no_job_goes_further_than_it_has_waited_for(planned, world):
    """Ranks that can never take it do not count; what it would cost somewhere may change while others are placed."""
    made = planned(world)
    for queued in world.classes:
        shape, rules = queued.shape, queued.shape.sites
        if not rules.prefer or shape.max_cost is not None:
            continue
        never = {each.site for each in why(shape, world).verdicts if any(said.kind.is_lasting for said in each.objections)}
        ranks = [site for site in rules.prefer if site not in never and site != "gone"]
        for created, site in zip(queued.created, sites_of(made)[shape], strict=False):
            rank = ranks.index(site) if site in ranks else len(ranks)
            assert world.now - created >= rank * rules.spill_after_s


def late(world: PlanInput, made: Plan) -> Counter[Shape]:
    """How many jobs are placed where they end after the deadline of the oldest of their class."""
    oldest, found = {queued.shape: queued.created[0] for queued in world.classes}, Counter()
    for placement in made.placements:
        shape, end = placement.shape, world.now + placement.decision.cost.hours * 3600
        is_late = shape.deadline_s is not None and end > oldest[shape] + shape.deadline_s
        found[shape] += placement.count * is_late
    return +found


@given(ruled_worlds())
@settings(max_examples=120, deadline=None)
def test_another_deal_of_what_is_placed_makes_nobody_late(world):
    assert late(world, plan(world)) <= late(world, greedy(world))


@given(ruled_worlds())
@settings(max_examples=120, deadline=None)
def test_a_reason_that_speaks_of_other_jobs_of_a_word_is_true(world):
    made = plan(world)
    companions = Companions(groups_after(world.groups, made.placements))
    for shape, passed in made.passed.items():
        if "its affinity" in passed.reason or "its spread" in passed.reason:
            assert any(companions.objection(shape, view.site.name) for view in world.sites)


@given(ruled_worlds(), st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_input_does_not_matter(world, chance):
    classes, sites, groups = list(world.classes), list(world.sites), list(world.groups)
    for each in (classes, sites, groups):
        chance.shuffle(each)
    assert plan(replace(world, classes=tuple(classes), sites=tuple(sites), groups=tuple(groups))) == plan(world)


@given(st.lists(ruled_worlds(), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_what_is_remembered_of_earlier_plans_changes_nothing(found: Sequence[PlanInput]):
    memory = Memory()
    for step, world in enumerate(found):
        later = replace(world, now=world.now + step * 1800)
        again = replace(later, sites=found[0].sites)
        assert plan(again, memory=memory) == plan(again)
        assert plan(later, memory=memory) == plan(later)
