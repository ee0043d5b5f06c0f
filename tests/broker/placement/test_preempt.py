"""Who gives way to whom, and for how much lost work."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.placement.assign import plan
from broker.placement.view import Attempts, Held, TenantView
from broker.records import Quota
from tests.broker.placement.worlds import NOW, a_shape, a_view, a_world, waiting
from topology.resources import Resources

LONG = NOW + 10 * 3600


def best_effort(*hours, cpus=1.0, tenant="default", priority=50, checkpoint_s=None, first=0):
    """Attempts that began so many hours ago, named by their number."""
    names = tuple(f"{tenant}-{first + number}" for number in range(len(hours)))
    return Attempts(tenant, priority, "cpu", Resources(cpus), 1, names, tuple(NOW - each * 3600 for each in hours), checkpoint_s)


def a_site(*groups, ending=(), firm=0, name="ams", cpus=8, nodes=1, **site):
    """A site that is held by best effort, by `firm` cpus of what may not be preempted, and by what is ending."""
    held = [Held("cpu", each.task, each.tasks, (LONG,) * len(each.jobs)) for each in (*groups, *ending)]
    held += [Held("cpu", Resources(1.0), 1, (LONG,) * firm)] if firm else []
    view = a_view(name, cpus=cpus, nodes=nodes, held=tuple(held), **site)
    return replace(view, preemptible=groups, ending=tuple(ending))


def evicted(world):
    return sorted(each.job for each in plan(world).evictions)


def test_best_effort_fills_what_is_idle_and_gives_way():
    view = a_site(best_effort(1, 2, 3), firm=5)
    made = plan(a_world(view, classes=[waiting(a_shape())]))
    assert [each.job for each in made.evictions] == ["default-0"]
    assert made.passed[a_shape()].reason == "waits for ams/cpu, about a minute: 1 run gives way to it"


def test_the_least_work_is_lost():
    # 3 h unsaved of 1 cpu; 5 h, saved every hour and so 0 h unsaved; 20 min
    young, saved = best_effort(3, 1 / 3), best_effort(5, tenant="b", checkpoint_s=3600)
    assert evicted(a_world(a_site(young, saved, firm=5), classes=[waiting(a_shape())])) == ["b-0"]
    assert evicted(a_world(a_site(young, saved, firm=5), classes=[waiting(a_shape(cpus=2))])) == ["b-0", "default-1"]


def test_no_more_give_way_than_must():
    # of 1 cpu each 0.1 + 0.2 + 0.3 + 0.4 = 1 cpu hour; of 4 cpus 1 h, 4 cpu hours; and 5 cpus take all of the small and the large
    small, large = best_effort(0.1, 0.2, 0.3, 0.4), best_effort(1.0, cpus=4.0, tenant="b")
    assert evicted(a_world(a_site(small, large), classes=[waiting(a_shape(cpus=4))])) == [f"default-{n}" for n in range(4)]
    assert evicted(a_world(a_site(small, large), classes=[waiting(a_shape(cpus=3))])) == [f"default-{n}" for n in range(3)]
    assert evicted(a_world(a_site(small, large), classes=[waiting(a_shape(cpus=5))])) == ["b-0", "default-0"]


@pytest.mark.parametrize(
    "shape",
    [a_shape(preemptible=True), a_shape(preemptible=True, tenant="b", priority=90), a_shape(preemptible=True, priority=10)],
)
def test_best_effort_gives_way_to_no_best_effort_of_its_like(shape):
    assert evicted(a_world(a_site(best_effort(1, priority=50), firm=7), classes=[waiting(shape)])) == []


def test_inside_a_tenant_a_higher_priority_goes_before_a_lower_one():
    shape = a_shape(preemptible=True, priority=90)
    assert evicted(a_world(a_site(best_effort(1, priority=50), firm=7), classes=[waiting(shape)])) == ["default-0"]


def test_nothing_gives_way_where_the_site_does_not_allow_it():
    view = a_site(best_effort(1), firm=7, allows_preemption=False)
    assert evicted(a_world(view, classes=[waiting(a_shape())])) == []


def test_nothing_gives_way_where_there_is_room_elsewhere():
    full, idle = a_site(best_effort(1), firm=7), a_view("fra", cpus=8)
    assert evicted(a_world(full, idle, classes=[waiting(a_shape())])) == []


def test_nothing_gives_way_in_vain():
    # 2 of 8 cpus could be had, and the job wants 4
    assert evicted(a_world(a_site(best_effort(1, 1), firm=6), classes=[waiting(a_shape(cpus=4))])) == []


def test_what_is_ending_is_waited_for_and_kept_for_whom_it_ends():
    ending = best_effort(1, 1, tenant="b")
    view = a_site(best_effort(2, 2), ending=[ending], firm=4)
    firm, more = a_shape(cpus=2), a_shape(preemptible=True)
    made = plan(a_world(view, classes=[waiting(firm), waiting(more, 5)]))
    assert (made.evictions, made.placements) == ((), ())
    assert made.passed[firm].reason == "waits for ams/cpu, about a minute: what ends there makes room"


def test_two_that_want_room_do_not_count_on_the_same():
    # 2 cpus are ending for the first; the second needs 2 others
    ending, view_of = best_effort(1, 1, tenant="b"), best_effort(2, 2)
    first, second = a_shape(cpus=2, priority=90), a_shape(cpus=2, priority=80)
    made = plan(a_world(a_site(view_of, ending=[ending], firm=4), classes=[waiting(first), waiting(second)]))
    assert sorted(each.job for each in made.evictions) == ["default-0", "default-1"]


def test_what_will_be_over_in_a_moment_need_not_give_way():
    view = a_site(best_effort(1), firm=6)
    soon = replace(view, held=(*view.held, Held("cpu", Resources(1.0), 1, (NOW + 30,))))
    assert evicted(a_world(soon, classes=[waiting(a_shape())])) == []


def test_a_gang_gets_room_on_the_nodes_as_they_are_packed():
    groups = best_effort(*[1 + number / 10 for number in range(4)], cpus=2.0)
    view = a_site(groups, cpus=4, nodes=2)
    assert len(evicted(a_world(view, classes=[waiting(a_shape(cpus=4, tasks=2))]))) == 4
    assert len(evicted(a_world(view, classes=[waiting(a_shape(cpus=4))]))) == 2


FOUR = (Quota("cpus", 4.0, borrow=None),)
LENDER, BORROWER = TenantView("a", quotas=FOUR), TenantView("b", quotas=FOUR)


def lent(count, **shape):
    """8 cpus, 4 of them b's own and the others borrowed from a; a's class waits."""
    view = a_site(best_effort(*[number / 10 for number in range(8)], tenant="b"))
    holds = replace(BORROWER, holds=Resources(8.0), holds_at={"ams": Resources(8.0)})
    return a_world(view, classes=[waiting(a_shape(tenant="a", preemptible=True, **shape), count)], tenants=(LENDER, holds))


@pytest.mark.parametrize(("count", "given_back"), [(1, 1), (4, 4), (9, 4)])
def test_what_was_lent_is_given_back_and_no_more(count, given_back):
    made = plan(lent(count))
    assert [each.job for each in made.evictions] == [f"b-{number}" for number in range(given_back)]
    assert {each.why for each in made.evictions} == {"gives back what it borrowed to tenant a"}


def test_of_what_does_not_fit_whole_nothing_is_given_back():
    # a's own 4 cpus would do for a job of 4 and not for one of 5
    assert len(plan(lent(1, cpus=4)).evictions) == 4
    assert plan(lent(1, cpus=5)).evictions == ()


def test_a_tenants_best_effort_leaves_its_quota_to_its_own_firm_jobs_wherever_there_is_room():
    # the quota of 4 is full of best effort at ams; there is room at fra, and none in the quota
    full = a_site(best_effort(1, 2, 3, 4, tenant="a"), cpus=4)
    tenant = TenantView("a", quotas=(Quota("cpus", 4.0),), holds=Resources(4.0), holds_at={"ams": Resources(4.0)})
    made = plan(a_world(full, a_view("fra", cpus=8), classes=[waiting(a_shape(tenant="a", cpus=2))], tenants=(tenant,)))
    assert (sorted(each.job for each in made.evictions), made.placements) == (["a-0", "a-1"], ())


def test_a_quota_of_what_a_job_does_not_take_does_not_hold_it_back():
    tenant = TenantView("a", quotas=(Quota("gpus", 4.0, borrow=None), Quota("cpus", 9.0, "osl")))
    made = plan(a_world(a_view("ams"), classes=[waiting(a_shape(tenant="a", preemptible=True), 2)], tenants=(tenant,)))
    assert (sum(placement.count for placement in made.placements), made.passed) == (2, {})


def test_what_is_placed_beyond_its_quota_is_not_told_to_be_over_it():
    tenant = TenantView("a", quotas=FOUR)
    made = plan(a_world(a_view("ams"), classes=[waiting(a_shape(tenant="a", preemptible=True), 6)], tenants=(tenant,)))
    assert (sum(placement.count for placement in made.placements), made.passed) == (6, {})


def test_what_was_lent_of_one_resource_is_given_back_though_another_is_not_used_up():
    both = (*FOUR, Quota("memory_gib", 100.0, borrow=None))
    view = a_site(best_effort(*[number / 10 for number in range(8)], tenant="b"))
    borrower = TenantView("b", quotas=both, holds=Resources(8.0, 1.0), holds_at={"ams": Resources(8.0, 1.0)})
    queue = [waiting(a_shape(tenant="a", preemptible=True), 9)]
    made = plan(a_world(view, classes=queue, tenants=(TenantView("a", quotas=both), borrower)))
    assert len(made.evictions) == 4


def test_a_firm_job_gets_its_quota_from_its_tenants_best_effort_at_another_site():
    full = a_site(best_effort(1, 2, 3, 4, tenant="a"), cpus=4)
    tenant = TenantView("a", quotas=(Quota("cpus", 4.0),), holds=Resources(4.0), holds_at={"ams": Resources(4.0)})
    queue = [waiting(a_shape(tenant="a", names=("fra",)))]
    assert evicted(a_world(full, a_view("fra", cpus=8), classes=queue, tenants=(tenant,))) == ["a-0"]


def test_a_gang_that_no_quota_takes_is_told_what_it_needs_and_no_false_cure():
    # 1 of its own and 1 to borrow: a gang of 4 can never run, preemptible or not; one of 2 could borrow
    tenant = TenantView("a", quotas=(Quota("cpus", 1.0, borrow=1.0),))
    four, two = a_shape(tenant="a", tasks=4), a_shape(tenant="a", tasks=2)
    passed = plan(a_world(a_view("ams"), classes=[waiting(four), waiting(two)], tenants=(tenant,))).passed
    assert passed[four].reason == "tenant a holds 0 of the 1 cpus that it may, and a job needs 4"
    assert passed[four].help == ("a larger quota of cpus for a",)
    assert passed[two].help == ("a larger quota of cpus for a, or `preemptible: true`, which may borrow",)


@st.composite
def federations(draw):
    """Best effort of three tenants fills two sites; firm and best-effort jobs wait."""
    quotas = st.sampled_from([(), (Quota("cpus", 4.0, borrow=None),), (Quota("cpus", 6.0, borrow=4.0),), (Quota("cpus", 3.0),)])
    groups, holds = {"ams": [], "fra": []}, {name: {} for name in "abc"}
    for number in range(draw(st.integers(1, 6))):
        site, tenant = draw(st.sampled_from(["ams", "fra"])), draw(st.sampled_from("abc"))
        cpus = draw(st.sampled_from([1.0, 2.0]))
        hours = draw(st.lists(st.sampled_from([0.5, 1, 2]), min_size=1, max_size=2))
        group = best_effort(*hours, cpus=cpus, tenant=tenant, priority=draw(st.sampled_from([10, 50])), first=10 * number)
        if sum(each.task.cpus * len(each.jobs) for each in groups[site]) + cpus * len(hours) <= 8:
            groups[site].append(group)
            holds[tenant][site] = holds[tenant].get(site, Resources()) + group.task * len(hours)
    tenants = [TenantView(name, holds_at=holds[name], quotas=draw(quotas)) for name in "abc"]
    shapes = st.builds(
        a_shape,
        cpus=st.sampled_from([1, 2, 4]),
        tenant=st.sampled_from("abc"),
        priority=st.sampled_from([10, 50, 90]),
        preemptible=st.booleans(),
    )
    classes = [waiting(shape, draw(st.integers(1, 3))) for shape in draw(st.lists(shapes, min_size=1, max_size=5, unique=True))]
    return a_world(*(a_site(*groups[name], name=name) for name in groups), classes=classes, tenants=tuple(tenants))


def after(world, made):
    """The world once what the plan placed is there and what gives way is gone, back in the queue; with what is now where."""
    gone = {each.job for each in made.evictions}
    queue = {queued.shape: queued.count for queued in world.classes}
    sites = {view.site.name: [] for view in world.sites}
    firm = {view.site.name: [each for each in view.held if each.ends[0] == LONG + 1] for view in world.sites}
    for view in world.sites:
        for group in view.preemptible:
            kept = [(job, began) for job, began in zip(group.jobs, group.began, strict=True) if job not in gone]
            lost = len(group.jobs) - len(kept)
            if lost:
                shape = a_shape(cpus=group.task.cpus, tenant=group.tenant, priority=group.priority, preemptible=True)
                queue[shape] = queue.get(shape, 0) + lost
            if kept:
                names, begins = zip(*kept, strict=True)
                sites[view.site.name].append(replace(group, jobs=names, began=begins))
    for number, placement in enumerate(made.placements):
        shape, count = placement.shape, placement.count
        queue[shape] -= count
        if shape.preemptible:
            names = tuple(f"new-{world.now}-{number}-{each}" for each in range(count))
            task, begins = Resources(shape.resources.cpus), (world.now,) * count
            sites[placement.site].append(Attempts(shape.tenant, shape.priority, "cpu", task, 1, names, begins))
        else:
            firm[placement.site].append(Held("cpu", Resources(shape.resources.cpus), 1, (LONG + 1,) * count))
    views = []
    for view in world.sites:
        name = view.site.name
        held = [Held("cpu", each.task, 1, (LONG,) * len(each.jobs)) for each in sites[name]] + firm[name]
        views.append(replace(view, held=tuple(held), preemptible=tuple(sites[name])))
    holds = {tenant.name: dict(tenant.holds_at) for tenant in world.tenants}
    tenants = tuple(replace(tenant, holds_at=_held_after(tenant.name, holds, world, made)) for tenant in world.tenants)
    classes = tuple(waiting(shape, count) for shape, count in queue.items() if count)
    return replace(world, now=world.now + 1, sites=tuple(views), classes=classes, tenants=tenants)


def _held_after(name, holds, world, made):
    found, gone = dict(holds[name]), {each.job for each in made.evictions}
    for view in world.sites:
        for group in view.preemptible:
            lost = sum(job in gone for job in group.jobs)
            if group.tenant == name and lost:
                found[view.site.name] = found[view.site.name] - group.task * lost
    for placement in made.placements:
        if placement.shape.tenant == name:
            more = Resources(placement.shape.resources.cpus) * placement.count
            found[placement.site] = found.get(placement.site, Resources()) + more
    return found


@given(federations())
@settings(max_examples=150, deadline=None)
def test_giving_way_never_goes_in_a_circle(world):
    for _ in range(12):
        made = plan(world)
        if not made.evictions and not made.placements:
            return
        world = after(world, made)
    raise AssertionError("something still moves though nothing has come or gone")


@given(federations())
@settings(max_examples=150, deadline=None)
def test_quotas_hold_whoever_gives_way(world):
    for _ in range(4):
        world = after(world, plan(world))
        for tenant in world.tenants:
            for quota in tenant.quotas:
                used = sum(held.cpus for held in tenant.holds_at.values())
                before = quota.amount + quota.borrow if quota.borrow is not None else float("inf")
                placed = [each for each in plan(world).placements if each.shape.tenant == tenant.name]
                assert not placed or used + sum(each.shape.resources.cpus * each.count for each in placed) <= before + 1e-9
