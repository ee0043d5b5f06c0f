"""Hard limits of jobs: what they may cost, where their data may go, and who must be where; by example."""

from dataclasses import replace

from broker.jobs.model import Spread, Together, Weights
from broker.placement.assign import plan
from broker.placement.explain import why
from broker.placement.view import Attempts, Group, QueuedClass
from tests.broker.placement.worlds import NOW, a_link, a_shape, a_view, a_world, running, waiting
from topology.resources import Resources
from topology.site import Admission, Price


def where(given):
    """(site, how many) of each placement."""
    return [(placement.site, placement.count) for placement in plan(given).placements]


def test_a_job_goes_nowhere_where_it_costs_more_than_it_may():
    # 2 h * 3 tasks of 2 cpus = 12 cpu h: at ams, at speed 1, * 1.00 EUR = 12.00; at fra, at speed 2, 6 * 2.50 EUR = 15.00
    ams, fra = a_view("ams", price=Price("EUR", 1.0)), a_view("fra", price=Price("EUR", 2.5), speed=2.0)
    job = a_shape(run_hours=2, tasks=3, cpus=2, max_cost=12.5)
    assert where(a_world(ams, fra, classes=[waiting(job)])) == [("ams", 1)]
    assert why(job, a_world(ams, fra)).verdicts[1].text == "fra: no, costs 15.00 EUR, more than the 12.50 that the job may"
    assert why(job, a_world(fra)).help == ("a max_cost of 15.00",)
    passed = plan(a_world(fra, classes=[waiting(job)])).passed[job]
    assert passed.reason == "no site can run it: fra: costs 15.00 EUR, more than the 12.50 that the job may"


def test_what_a_transfer_costs_counts_as_well():
    # 1 h * 1 cpu * 1.00 EUR = 1.00, and 100 GiB * 0.02 EUR = 2.00 for the transfer
    ams, fra = a_view("ams", cpus=0.5), a_view("fra", price=Price("EUR", 1.0))
    given = {"at": {"corpus": "ams"}, "sizes": {"corpus": 100}, "links": [a_link("ams", "fra", price=0.02)]}
    enough, short = (a_shape(inputs=("corpus",), max_cost=most) for most in (3.0, 2.99))
    assert where(a_world(ams, fra, classes=[waiting(enough)], **given)) == [("fra", 1)]
    assert "costs 3.00 EUR, more than the 2.99" in plan(a_world(ams, fra, classes=[waiting(short)], **given)).passed[short].reason


def test_a_site_objects_only_where_all_its_pools_and_gpu_types_are_too_dear():
    # 1 h with one GPU: 4.00 EUR on an h100, 2.00 EUR on an a100
    ams = a_view("ams", gpus={"a100": 1, "h100": 1}, price=Price("EUR", 0.0, {"a100": 2.0, "h100": 4.0}))
    (placement,) = plan(a_world(ams, classes=[waiting(a_shape(gpus=1, max_cost=3.0), 2)])).placements
    assert (placement.gpu_type, placement.count) == ("a100", 1)
    assert "costs 2.00 EUR" in why(a_shape(gpus=1, max_cost=1.0), a_world(ams)).verdicts[0].text


def test_a_limit_of_cost_holds_whatever_the_job_strives_for():
    # at fra it would end in half the time, for 2.00 EUR and not 1.00
    ams, fra = a_view("ams", price=Price("EUR", 1.0)), a_view("fra", price=Price("EUR", 4.0), speed=2.0)
    for objective, most, site in ((Weights(), 3.0, "fra"), (Weights(), 1.5, "ams"), (Weights(0, 1), 3.0, "ams")):
        assert where(a_world(ams, fra, classes=[waiting(a_shape(objective=objective, max_cost=most))])) == [(site, 1)]


def regional(**world):
    """Three sites of two cpus in regions of their own, all linked; `corpus` is at ams, and may enter those of ams and fra."""
    views = [a_view(name, region=f"r-{name}", cpus=2) for name in ("ams", "fra", "osl")]
    links = [a_link(a.site.name, b.site.name) for a in views for b in views if a is not b]
    return a_world(*views, at={"corpus": "ams"}, links=links, regions={"corpus": ("r-ams", "r-fra")}, **world)


def test_data_is_brought_to_its_regions_only():
    # two jobs of 9 h fit each site: two stay with the data, two go to fra, and the others wait rather than go to osl
    job = a_shape(run_hours=9, inputs=("corpus",))
    assert where(regional(classes=[waiting(job, 6)])) == [("ams", 2), ("fra", 2)]
    assert why(job, regional()).verdicts[-1].text == "osl: no, default/corpus@1 may only be brought to r-ams or r-fra"


def test_a_copy_that_is_there_already_may_be_used():
    given = a_world(a_view("osl", region="r-osl"), classes=[waiting(a_shape(inputs=("corpus",)))], at={"corpus": "osl"},
                    regions={"corpus": ("r-ams",)})  # fmt: skip
    assert where(given) == [("osl", 1)]


def test_jobs_of_one_word_go_where_the_first_of_them_went():
    # ams has room for two and is the fastest: all follow there, or wait for it, while fra stands idle
    classes = [waiting(a_shape(affinity="p7", priority=priority), 2, age=9) for priority in (50, 60)]
    given = a_world(a_view("ams", cpus=3, speed=2.0), a_view("fra"), classes=classes)
    made = plan(given)
    assert [(each.site, each.count, each.shape.priority) for each in made.placements] == [("ams", 2, 60), ("ams", 1, 50)]
    assert made.passed[classes[0].shape].reason.startswith("waits for ams/cpu")


def test_jobs_follow_those_that_are_at_a_site_and_those_of_other_words_and_tenants_do_not():
    # fra is twice as fast, but one of p7 is at ams
    groups = (Group("default", Together.AFFINITY, "p7", {"ams": 1}),)
    ams, fra = a_view("ams"), a_view("fra", speed=2.0)
    followers = {"p7": ("default", "ams"), "p8": ("default", "fra")}
    for word, (tenant, site) in followers.items():
        given = a_world(ams, fra, classes=[waiting(a_shape(affinity=word, tenant=tenant))], groups=groups)
        assert where(given) == [(site, 1)]
    assert where(a_world(ams, fra, classes=[waiting(a_shape(affinity="p7", tenant="red"))], groups=groups)) == [("fra", 1)]
    told = why(a_shape(affinity="p7"), a_world(ams, fra, groups=groups))
    assert (told.site, told.verdicts[1].text) == ("ams", "fra: no, is not ams, where its affinity p7 is")


def test_jobs_of_one_word_wait_for_their_site_while_it_takes_none():
    groups = (Group("default", Together.AFFINITY, "p7", {"ams": 1}),)
    job, closed = a_shape(affinity="p7"), a_view("ams", admission=Admission.CORDONED)
    made = plan(a_world(closed, a_view("fra"), classes=[waiting(job)], groups=groups))
    assert made.placements == ()
    said = "no site takes it now: ams: is cordoned; fra: is not ams, where its affinity p7 is"
    assert made.passed[job].reason == said
    assert made.passed[job].help == ("uncordon ams", "room at ams")


def test_a_thousand_jobs_two_per_site_are_ten_at_five_sites():
    views = [a_view(f"s{number}", cpus=200, speed=1 + number) for number in range(5)]
    job = a_shape(spread=Spread("replicas", 2))
    made = plan(a_world(*views, classes=[waiting(job, 1000)]))
    assert sorted((each.site, each.count) for each in made.placements) == [(f"s{number}", 2) for number in range(5)]
    told = "has the 2 of its spread replicas that may be at one site"
    assert made.passed[job].reason == f"no site takes it now: s0: {told}; s1: {told}; s2: {told}; and 2 more"
    assert made.passed[job].help[0] == "one of replicas at s0 to end, or a larger per_site"


def test_classes_that_take_turns_share_what_may_be_at_a_site():
    # their jobs come one by one, older and younger: of four three may be at ams
    small, large = (a_shape(cpus=cpus, spread=Spread("replicas", 3)) for cpus in (1, 2))
    ages = {small: (6000.0, 4000.0), large: (5000.0, 3000.0)}
    classes = [QueuedClass(shape, tuple(NOW - age for age in of), 2) for shape, of in ages.items()]
    made = plan(a_world(a_view("ams", cpus=100), classes=classes))
    assert sum(each.count for each in made.placements) == 3
    assert list(made.passed) == [large]


def test_those_that_are_at_a_site_count_and_one_that_rather_waits_for_it_keeps_nobody_from_other_sites():
    # one of two may join at ams, which is cheaper and full for 6 min: it waits; two of the others go to fra
    price = Price("EUR", 1.0)
    ams, fra = a_view("ams", cpus=1, held=(running(1, until=0.1),)), a_view("fra", price=price)
    job = a_shape(spread=Spread("replicas", 2), objective=Weights(1, 1))
    groups = (Group("default", Together.SPREAD, "replicas", {"ams": 1}),)
    assert where(a_world(ams, fra, classes=[waiting(job, 9)], groups=groups)) == [("fra", 2)]


def test_nobody_gives_way_to_more_jobs_of_a_word_than_may_come():
    # ams and fra are full of best effort, four runs each; of 8 jobs one may be at each site, and so one run ends at a time
    views = [replace(a_view(name, cpus=4, held=(running(1, until=9, count=4),)), preemptible=(best_effort(name),)) for name in AT]
    made = plan(a_world(*views, classes=[waiting(a_shape(spread=Spread("replicas")), 8)]))
    assert (len(made.placements), len(made.evictions)) == (0, 1)


AT = ("ams", "fra")


def best_effort(site):
    return Attempts("default", 50, "cpu", Resources(1), 1, tuple(f"{site}-{number}" for number in range(4)), (NOW - 60,) * 4)
