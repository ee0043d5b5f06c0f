"""Hard limits of jobs: what they may cost, where their data may go, and who must be where; by example."""

from broker.jobs.model import Weights
from broker.placement.assign import plan
from broker.placement.explain import why
from tests.broker.placement.worlds import a_link, a_shape, a_view, a_world, waiting
from topology.site import Price


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
