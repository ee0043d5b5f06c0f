import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.clock import SystemClock
from broker.jobs.model import Ask, Attempt, End, Ending, JobSpec, JobState, Phase, SiteRules, Wish
from broker.records import SiteStatus, Tenant
from broker.store import keys as kinds
from broker.store.base import Put, Record
from broker.store.codec import Unreadable, decode, encode, read
from broker.store.keys import Keys
from broker.store.ledger import Ledger, Save
from broker.store.memory import MemoryServer, MemoryStore
from broker.store.mirror import Mirror
from topology.dataset import Dataset, DatasetId
from topology.resources import Resources
from topology.room import Room


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (kinds.WISHES, Wish("j1", "count", "vision", 1.0, "ana", spec=JobSpec("vision", ("true",)), cancel=Ask("ana", "", 2.0))),
        (kinds.STATES, JobState("j1")),
        (kinds.SITE_STATUS, SiteStatus("ams", rooms={"cpu": Room.of([(Resources.of(4, 8, {"a100": 2}), 3)])})),
    ],
)
def test_what_is_written_is_read_back(kind, value):
    assert read(kind, encode(value)) == (value, False)


BOUNDED = replace(JobSpec("vision", ("true",)), max_cost=2.0)


@pytest.mark.parametrize(
    ("value", "format_"),
    [
        (JobSpec("vision", ("true",)), 1),
        (replace(JobSpec("vision"), workdir=DatasetId("vision", "code", "1")), 2),
        (BOUNDED, 3),
        (Wish("j1", "count", "vision", 1.0, "ana", spec=BOUNDED, labels={"a": "b"}), 3),
        (replace(JobSpec("vision"), sites=SiteRules(affinity="a")), 3),
        (Dataset(DatasetId("vision", "corpus", "1"), regions=("eu",)), 3),
    ],
)
def test_a_record_is_written_in_the_oldest_format_that_says_it(value, format_):
    assert json.loads(encode(value))["v"] == format_


def rewritten(kind, raw, change):
    """What a broker that does not know all of `raw` writes in its place."""
    known, has_more = read(kind, raw)
    return json.loads(encode(change(known), raw if has_more else None))


def a_running_job():
    attempts = (Attempt(1, "ams", "cpu", 1.0, end=End(2.0, Ending.PREEMPTED)), Attempt(2, "fra", "cpu", 3.0))
    return JobState("j1", Phase.PLACED, attempts)


def test_fields_that_a_newer_broker_wrote_are_kept():
    newer = b'{"v":1,"name":"vision","max_pending":5,"colour":"blue"}'
    written = rewritten(kinds.TENANTS, newer, lambda tenant: replace(tenant, max_pending=6))
    assert written == {"v": 1, "name": "vision", "max_pending": 6, "colour": "blue"}


def test_they_are_kept_inside_of_lists_and_mappings_whose_other_items_come_and_go():
    newer = json.loads(encode(a_running_job()))
    newer["attempts"][0]["colour"], newer["attempts"][1]["decision"] = "blue", {"cost": {"water_litres": 7.0}}
    newer["attempts"][0]["end"]["core"] = "/core"

    def on(state):
        accepted = replace(state.attempts[1], native_id="7")
        return replace(state, phase=Phase.QUEUED, attempts=(state.attempts[0], accepted, Attempt(3, "osl", "cpu", 4.0)))

    first, second, third = rewritten(kinds.STATES, json.dumps(newer).encode(), on)["attempts"]
    assert (first["colour"], first["end"]["core"]) == ("blue", "/core")
    assert (second["native_id"], second["decision"]) == ("7", {"cost": {"water_litres": 7.0}})
    assert third == {"number": 3, "site": "osl", "pool": "cpu", "placed_at": 4.0}
    without_first = rewritten(kinds.STATES, json.dumps(newer).encode(), lambda state: replace(state, attempts=state.attempts[1:]))
    assert [attempt.get("colour") for attempt in without_first["attempts"]] == [None]


NAMES = st.text("abc", min_size=1, max_size=2)
PLAIN = st.recursive(st.integers() | NAMES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=4)
LABELS = st.dictionaries(NAMES, NAMES)


@given(more=st.dictionaries(NAMES.map("new_{}".format), PLAIN), labels=LABELS, others=LABELS)
def test_what_is_known_is_replaced_and_all_else_stays(more, labels, others):
    wish = Wish("j1", "count", "vision", 1.0, "ana", labels=labels, hold=Ask("ana", "", 2.0))
    newer = json.loads(encode(wish))
    newer |= more
    newer["hold"] |= more
    raw = json.dumps(newer).encode()
    written = rewritten(kinds.WISHES, raw, lambda known: replace(known, labels=others))
    assert written == {**json.loads(encode(replace(wish, labels=others))), **more, "hold": newer["hold"]}
    assert rewritten(kinds.WISHES, raw, lambda known: replace(known, labels=others, hold=None)) == {
        **json.loads(encode(replace(wish, labels=others, hold=None))),
        **more,
    }


@pytest.mark.parametrize("is_seen", [True, False])
async def test_a_write_keeps_what_the_mirror_has_and_what_it_is_yet_to_see(is_seen):
    server, clock = MemoryServer(SystemClock()), SystemClock()
    store, keys = MemoryStore(server), Keys("fed")
    mirror = Mirror(store, keys, clock)
    key, newer = keys.of(kinds.TENANTS, "vision"), b'{"v":1,"name":"vision","colour":"blue"}'
    (put,) = await store.commit([[Put(key, newer, 0)]])
    if is_seen:
        mirror.enter(Record(key, newer, put.revision, put.revision), None)
    await Ledger(store, mirror).commit([[Save(key, Tenant("vision", 6), put.revision)]])
    (record,) = await store.get([key])
    assert json.loads(record.value) == {"v": 1, "name": "vision", "max_pending": 6, "colour": "blue"}


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"{", b'{"v":4,"name":"vision"}', b'{"name":"vision"}', b'{"v":1}'])
def test_what_is_no_record_of_ours_is_unreadable(raw):
    with pytest.raises(Unreadable):
        decode(kinds.TENANTS, raw)


A_WISH = Wish("j1", "reads", "default", 0.0, "ana", JobSpec("default", ("true",)))
WITH_WORKDIR = JobSpec("default", ("true",), workdir=DatasetId("default", "code", "1"))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (A_WISH, 1),
        (replace(A_WISH, labels={"team": "red"}), 2),
        (replace(A_WISH, spec=WITH_WORKDIR), 2),
        (WITH_WORKDIR, 2),
        (JobSpec("default", ("true",)), 1),
    ],
)  # fmt: skip
def test_a_record_is_in_the_oldest_format_that_can_say_it(value, number):
    """So that brokers of the first format leave alone what they would run in the wrong place, or forget of."""
    assert json.loads(encode(value))["v"] == number
