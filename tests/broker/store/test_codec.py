import json

import pytest

from broker.jobs.model import Ask, JobSpec, JobState, Wish
from broker.records import SiteStatus, Tenant
from broker.store import keys as kinds
from broker.store.codec import Unreadable, decode, encode
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
    assert decode(kind, encode(value)) == value


def test_fields_that_a_newer_broker_wrote_are_kept():
    newer = b'{"v":9,"name":"vision","max_pending":5,"colour":"blue"}'
    assert json.loads(encode(Tenant("vision", 6), over=newer)) == {"v": 1, "name": "vision", "max_pending": 6, "colour": "blue"}


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"{", b'{"v":2,"name":"vision"}', b'{"name":"vision"}', b'{"v":1}'])
def test_what_is_no_record_of_ours_is_unreadable(raw):
    with pytest.raises(Unreadable):
        decode(kinds.TENANTS, raw)
