"""What `fed doctor` makes of the endpoint's answer."""

import pytest

from broker.cli.doctor import findings

NOW = 1_000_000.0
SITE = {
    "name": "ams", "health": "up", "reason": "", "unresolved": 0, "owner": "b1", "admission": "open", "checks": [],
}  # fmt: skip
STORE = {
    "version": "3.6.1", "size_bytes": 2**20, "quota_bytes": 2**30, "takes_new_jobs": True, "reason": "", "members": 3,
    "failing_since": None, "mirror": {"is_live": True},
}  # fmt: skip
MEMBER = {"id": "b1", "version": "0.1.0"}
WELL = {
    "now": NOW, "store": STORE, "members": [MEMBER, {**MEMBER, "id": "b2"}], "leader": "b1", "paused": None, "tokens": "",
    "unreadable_jobs": {}, "unwritable": {}, "sites": [SITE],
}  # fmt: skip


def told(**changed):
    """(what, whether jobs suffer) of all that is not well."""
    return [(each.what, each.is_bad) for each in findings({**WELL, **changed}, NOW) if each.cure]


def test_nothing_is_told_of_a_federation_that_is_well():
    assert told() == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"now": NOW + 9}, ("clock", False)),
        ({"store": {**STORE, "version": "3.5.1"}}, ("store", False)),
        ({"store": {**STORE, "failing_since": NOW - 9}}, ("store", True)),
        ({"store": {**STORE, "takes_new_jobs": False, "reason": "full"}}, ("store's room", True)),
        ({"store": {**STORE, "size_bytes": 0.7 * 2**30}}, ("store's room", False)),
        ({"store": {**STORE, "members": 2}}, ("store's members", False)),
        ({"store": {**STORE, "mirror": {"is_live": False}}}, ("records", True)),
        ({"members": [MEMBER]}, ("brokers", False)),
        ({"members": [MEMBER, {"id": "b2", "version": "0.2.0"}]}, ("versions", False)),
        ({"leader": None}, ("leader", True)),
        ({"paused": {"reason": "ada has paused"}}, ("placement", True)),
        ({"tokens": "line 3: no role"}, ("tokens", False)),
        ({"unreadable_jobs": {"j1": "format 9"}}, ("job j1", True)),
        ({"unwritable": {"states/j1": "too large"}}, ("record states/j1", True)),
        ({"sites": [{**SITE, "health": "down", "reason": "no answer"}]}, ("site ams", True)),
        ({"sites": [{**SITE, "health": "down", "unresolved": 2}]}, ("site ams", True)),
        ({"sites": [{**SITE, "owner": None}]}, ("site ams", True)),
        ({"sites": [{**SITE, "admission": "draining"}]}, ("site ams", False)),
        ({"sites": [{**SITE, "checks": [{"is_warning": True, "message": "clocks differ"}]}]}, ("site ams", False)),
    ],
)
def test_each_thing_that_is_wrong_is_told_with_a_cure(changed, expected):
    assert told(**changed) == [expected]


def test_a_restore_that_nobody_has_looked_at_is_the_only_thing_that_is_told_of_it():
    restored = {"reason": "the store was restored", "restore": {"at": NOW}}
    assert told(paused=restored, leader=None, sites=[{**SITE, "owner": None}]) == [("placement", True)]
