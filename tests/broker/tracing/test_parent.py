"""`traceparent`, as W3C has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.tracing.parent import Parent, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
WELL = f"00-{TRACE}-{SPAN}-01"


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_handed_on_is_read_back(trace_id, span_id, is_sampled):
    parent = Parent(trace_id, span_id, is_sampled)
    assert parse(parent.header) == parent


@pytest.mark.parametrize(
    ("header", "is_sampled"),
    [
        *((WELL, True), (f" {WELL}\t", True), (f"cc-{WELL[3:]}-more", True)),
        *((f"00-{TRACE}-{SPAN}-00", False), (f"00-{TRACE}-{SPAN}-fe", False)),
    ],
)
def test_it_is_read_with_spaces_around_unknown_flags_and_of_a_later_version(header, is_sampled):
    assert parse(header) == Parent(int(TRACE, 16), int(SPAN, 16), is_sampled)


@pytest.mark.parametrize(
    "header",
    [
        *("", "-", "00", WELL[:-1], WELL + "1", WELL.upper(), WELL.replace("-", "_"), f"{WELL},{WELL}"),
        *(f"{WELL}\n", f"{WELL}-more", "\udcff" * 55, "٠" * 55),
        *(f"ff-{WELL[3:]}", f"cc-{WELL[3:]}.more", f"0-{WELL[3:]}", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"),
        *(f"00-{TRACE[:-1]}g-{SPAN}-01", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-", f"00-{TRACE}-{SPAN}-x1"),
    ],
)
def test_one_that_is_malformed_is_none(header):
    assert parse(header) is None


@given(st.text())
def test_no_words_at_all_break_it(header):
    parse(header)
