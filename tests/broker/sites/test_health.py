"""The conclusion from probes: by example, and by property for what must never lose a site."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Check, Layer
from broker.records import Health, SiteStatus
from broker.sites.health import FLIPS, Probing, Rules, conclude, is_our_fault, is_worth_writing

RULES = Rules(down_after=3, lost_after_s=30.0, longest_gap_s=10.0, slow_ms=1500.0)
OK = [Check(layer, True, 2.0) for layer in Layer]
NO_REACH = [Check(Layer.REACH, False, 2.0, "connection refused")]
BAD_LOGIN = [Check(Layer.REACH, True, 2.0), Check(Layer.LOGIN, False, 2.0, "no such account", is_misconfigured=True)]
NO_STORAGE = [*OK[:3], Check(Layer.STORAGE, False, 2.0, "read-only file system")]


AMS = SiteStatus("ams")


def after(*probes, status=AMS, every_s=5.0):
    """Status and memory after these probes."""
    probing = Probing()
    for number, checks in enumerate(probes):
        status, probing = conclude(status, probing, checks, 100.0 + number * every_s, RULES)
    return status, probing


def test_failures_lead_from_up_over_suspect_to_down_with_the_reason_and_since_when():
    healths = [after(OK, *[NO_REACH] * failures)[0].health for failures in range(4)]
    assert healths == [Health.UP, Health.SUSPECT, Health.SUSPECT, Health.DOWN]
    status, _ = after(OK, *[NO_REACH] * 5)
    assert (status.reason, status.since) == ("reach: connection refused", 115.0)  # the third failure, at 100 + 3 x 5


def test_a_new_owner_does_not_call_a_down_site_suspect():
    assert after(NO_REACH, status=SiteStatus("ams", Health.DOWN))[0].health is Health.DOWN


def test_a_site_is_lost_after_failing_for_long_counted_between_failed_probes():
    # the first failure counts nothing, each further one 5 s: 30 s after seven
    assert [after(*[NO_REACH] * count)[0].is_lost for count in (6, 7)] == [False, True]
    status, _ = after(*[NO_REACH] * 7, OK)
    assert (status.is_lost, status.failing_s, status.health) == (False, 0.0, Health.UP)


def test_time_in_which_the_broker_itself_slept_does_not_count():
    # an hour between two failed probes counts as 10 s
    assert after(NO_REACH, NO_REACH, every_s=3600.0)[0].failing_s == 10.0


def test_what_failed_before_a_restart_still_counts():
    assert after(NO_REACH, NO_REACH, status=SiteStatus("ams", failing_s=26.0))[0].is_lost


def test_a_misconfigured_site_and_one_without_storage_take_no_jobs_and_are_never_lost():
    for probe, health in ((BAD_LOGIN, Health.MISCONFIGURED), (NO_STORAGE, Health.DOWN)):
        status, _ = after(*[probe] * 50)
        assert (status.health, status.is_lost, status.health.takes_jobs) == (health, False, False)


def test_what_is_well_and_warns_degrades_and_says_what_to_mend():
    warning = replace(OK[0], message="the site's clock is 60 min ahead of the broker's: set both by NTP", is_warning=True)
    status, _ = after([warning, *OK[1:]])
    assert (status.health, status.reason) == (Health.DEGRADED, f"reach: {warning.message}")


def test_flapping_and_slowness_degrade():
    assert after(*[OK, NO_REACH] * (FLIPS // 2), OK)[0].reason == "it answers and fails by turns"
    slow = [replace(OK[0], latency_ms=2000.0), *OK[1:]]
    assert after(slow)[0].reason == "reach: slower than 1500 ms"
    assert after(slow)[0].health is Health.DEGRADED


@given(st.lists(st.sampled_from([OK, NO_REACH, BAD_LOGIN, NO_STORAGE, []]), max_size=30))
def test_no_site_is_lost_sooner_than_its_failing_time_allows(probes):
    status, _ = after(*probes)
    in_vain = 0
    for checks in reversed(probes):
        if checks in (NO_REACH, []):
            in_vain += 1
        else:
            break
    assert status.failing_s <= max(in_vain - 1, 0) * 5.0
    assert status.health.takes_jobs == (bool(probes) and probes[-1] is OK)


def test_when_many_sites_fail_at_once_we_suspect_ourselves():
    down, up = SiteStatus("x", Health.DOWN), SiteStatus("y", Health.UP)
    assert is_our_fault([down, down, down, up], 4, 0.5)
    assert not is_our_fault([down, down, up, up], 4, 0.5)  # not more than half
    assert not is_our_fault([down], 1, 0.5)  # one alone is its own fault


def test_only_news_is_written():
    status = SiteStatus("ams", Health.DOWN, "reach: gone", failing_s=10.0)
    assert not is_worth_writing(status, replace(status, failing_s=14.0, observed_at=9.0, checks=tuple(OK)))
    assert is_worth_writing(status, replace(status, failing_s=15.0))
    assert is_worth_writing(status, replace(status, failing_s=0.0))
    assert is_worth_writing(status, replace(status, life="2"))
