"""Who owns what: the hashing by example and property. Leases, fences and hand-overs are run in tests/faults."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from broker.members import preferred

NAMES = st.text("abcdefghij-0123456789", min_size=1, max_size=12)


def test_nobody_is_preferred_where_nobody_is():
    assert preferred("ams", []) is None


@given(NAMES, st.lists(NAMES, min_size=1, max_size=6, unique=True))
def test_the_choice_does_not_depend_on_the_order_of_members(site, members):
    assert preferred(site, members) == preferred(site, sorted(members)) == preferred(site, reversed(members))


@given(NAMES, st.lists(NAMES, min_size=2, max_size=6, unique=True))
def test_when_a_member_goes_only_its_own_sites_move(site, members):
    before, gone = preferred(site, members), members[0]
    after = preferred(site, members[1:])
    assert after == before or before == gone


def test_sites_are_shared_about_evenly():
    # 600 sites on 3 members: 200 each; a binomial's deviation is 12, so 5 of them are 60
    owners = Counter(preferred(f"site-{number}", ["a", "b", "c"]) for number in range(600))
    assert all(abs(count - 200) < 60 for count in owners.values())
