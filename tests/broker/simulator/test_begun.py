"""A simulation begun from the middle of another: the rest of it ends as that one did."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.simulator.engine import simulate
from broker.simulator.policies import named
from broker.simulator.scenario import Underway
from tests.broker.simulator.scenes import a_job, a_scenario, a_site

AT_ONCE = 0.0
"""Between plans: then no job waits for its turn, and none is between its placement and its start."""


@st.composite
def worlds(draw):
    """Sites of one node each, of several speeds, and jobs of one task that run exactly as long as expected."""
    sites = [a_site(name, draw(st.sampled_from([2, 4])), 1, draw(st.sampled_from([1.0, 2.0]))) for name in ("ams", "fra")]
    jobs, at = [], 0.0
    for number in range(draw(st.integers(1, 25))):
        at += draw(st.sampled_from([0.0, 60.0, 900.0]))
        jobs.append(a_job(f"j{number}", at, cpus=draw(st.sampled_from([1, 2])), run_hours=draw(st.sampled_from([0.1, 0.5, 2]))))
    return a_scenario(sites, jobs)


def rest_of(scenario, whole, now):
    """What of a scenario is not over by then, as it is then; its outcome says what runs where."""
    of = {arrival.name: replace(arrival, at=arrival.at - now) for arrival in scenario.arrivals}
    running = [job for job in whole.jobs if job.started_at <= now < job.ended_at]
    waiting = [job for job in whole.jobs if job.started_at > now]
    begun = tuple(Underway(of[job.name], job.site, job.pool, None, job.ended_at - now) for job in running)
    return replace(scenario, arrivals=tuple(of[job.name] for job in waiting), begun=begun)


def ends(outcome, since=0.0):
    """Where and when (to a millisecond) each job ran to its end, in seconds after `since`."""
    return {job.name: (job.site, round(job.ended_at - since, 3)) for job in outcome.jobs if job.ended_at > since}


@given(worlds(), st.floats(30.0, 20_000.0))
@settings(max_examples=100, deadline=None)
def test_what_is_begun_from_the_middle_ends_as_it_would_have(scenario, now):
    policy = named("least-loaded", queue_ahead=0.0)
    whole = simulate(scenario, policy, turn_s=AT_ONCE)
    assert ends(simulate(rest_of(scenario, whole, now), policy, turn_s=AT_ONCE)) == ends(whole, now)
