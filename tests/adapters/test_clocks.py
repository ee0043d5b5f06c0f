"""What a reply's Date says of a server's clock."""

import time
from email.utils import formatdate

import pytest

from adapters.base import Check, Layer
from adapters.clocks import ServerClock

WELL = [Check(Layer.REACH, True, 1.0, "version 3"), Check(Layer.LOGIN, True, 1.0)]


def judged(apart_s, checks=WELL, **headers):
    clock = ServerClock()
    clock.heard({"Date": formatdate(time.time() + apart_s, usegmt=True), **headers})
    return list(clock.judged(checks))


@pytest.mark.parametrize(
    ("apart_s", "words"),
    [(3605, "60 min ahead of"), (-7205, "120 min behind"), (61, "60 s ahead of"), (-42, "40 s behind")],
)
def test_clocks_that_differ_are_told_with_their_cure(apart_s, words):
    first, *others = judged(apart_s)
    assert (first.is_ok, first.is_warning) == (True, True)
    assert first.message == f"the site's clock is {words} the broker's: set both by NTP"
    assert others == WELL[1:]


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}, {"Date": formatdate(0, usegmt=True), "Age": "90"}])
def test_a_reply_that_says_nothing_of_the_time_is_no_reason_to_warn(headers):
    clock = ServerClock()
    clock.heard(headers)
    assert clock.judged(WELL) == WELL


def test_a_few_seconds_do_no_harm():
    assert judged(5) == WELL


def test_a_site_that_is_not_reached_is_told_as_it_is():
    failing = [Check(Layer.REACH, False, 1.0, "no answer")]
    assert judged(3600, failing) == failing
