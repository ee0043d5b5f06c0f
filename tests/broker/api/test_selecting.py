"""Lists by filters, page tokens, and many jobs at once."""

import base64

import pytest

from broker.api.selecting import Selector, selector_of
from broker.errors import InConflict, Invalid
from broker.jobs.model import Phase
from tests.broker.api.test_jobs import GONE_NOWHERE, a_job


async def made(fed, *bodies):
    return [item["id"] for item in (await fed.submit(list(bodies)))["items"]]


async def ids(fed, **narrow):
    return sorted(item["id"] for item in (await fed.jobs(**narrow))["items"])


async def test_labels_find_jobs(fed):
    one, two, three = await made(
        fed,
        a_job("one", labels={"team": "vision", "stage": "train"}, **GONE_NOWHERE),
        a_job("two", labels={"team": "vision"}, **GONE_NOWHERE),
        a_job("three", **GONE_NOWHERE),
    )
    assert await ids(fed, label="team=vision") == sorted([one, two])
    assert await ids(fed, label="team==vision,stage") == [one]
    assert await ids(fed, label="team=vision,!stage") == [two]
    assert await ids(fed, label="team!=vision") == [three]
    assert (await fed.job(one))["labels"] == {"team": "vision", "stage": "train"}
    assert (await fed.job(one))["spec"]["labels"] == {"team": "vision", "stage": "train"}


async def test_jobs_are_found_by_name_time_and_several_phases(fed):
    first, second = await made(fed, a_job("first", **GONE_NOWHERE), a_job("second", **GONE_NOWHERE))
    at = (await fed.job(first))["created_at"]
    assert await ids(fed, name="first", tenant="default") == await ids(fed, name="first") == [first]
    assert await ids(fed, since=str(at + 3600)) == await ids(fed, since="2100-01-01T00:00:00Z") == []
    assert await ids(fed, since="2001-01-01") == await ids(fed, phase="pending,running") == sorted([first, second])


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"phase": "pending,lost"}, "phase"),
        ({"label": "a=b=c"}, "label"),
        ({"label": "!a=b"}, "label"),
        ({"label": "=b"}, "label"),
        ({"label": "a=\u202eb"}, "label"),
        ({"since": "yesterday"}, "since"),
        ({"since": "1e400"}, "since"),
        ({"since": "-1"}, "since"),
    ],
)
def test_a_filter_that_makes_no_sense_is_named(given, field):
    with pytest.raises(Invalid) as raised:
        selector_of(given)
    assert [fault.field for fault in raised.value.faults] == [field]


def test_no_filter_means_all():
    assert selector_of({}).is_empty
    assert selector_of({"phase": "failed"}) == Selector(phases=frozenset({Phase.FAILED}))


async def test_a_token_that_was_made_up_or_moved_is_refused(fed):
    await made(fed, *(a_job(f"n{number}", **GONE_NOWHERE) for number in range(4)))
    token = (await fed.jobs(limit=2, phase="pending"))["next"]
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[-1] ^= 1
    forged = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    last = (await fed.jobs(limit=2))["items"][-1]["id"]
    pending, moved = {"phase": "pending"}, {"phase": "failed"}
    for cursor, narrow in ((forged, pending), (token, {}), (token, moved), (last, {}), ("", {}), ("\u00e9", {})):
        with pytest.raises(Invalid) as raised:
            await fed.jobs(limit=2, cursor=cursor, **narrow)
        assert [fault.field for fault in raised.value.faults] == ["cursor"]
    assert len((await fed.jobs(limit=2, cursor=token, phase="pending"))["items"]) == 2


async def test_a_token_of_one_broker_is_good_at_another(fed, federation):
    await made(fed, *(a_job(f"n{number}", **GONE_NOWHERE) for number in range(4)))
    token = (await fed.jobs(limit=2))["next"]
    async with federation.broker() as other:
        await other.context.world.mirror.reached(1)
        async with type(fed)(other.url) as there:
            assert len((await there.jobs(limit=2, cursor=token))["items"]) == 2


async def test_the_end_of_an_id_is_enough_where_only_one_job_has_it(fed):
    one, two = await made(fed, a_job("one", **GONE_NOWHERE), a_job("two", **GONE_NOWHERE))
    assert (await fed.job(one[-8:]))["id"] == one
    assert (await fed.job(two[-8:]))["id"] == two
    with pytest.raises(Exception, match="no job has"):
        await fed.job(one[-4:])


async def test_many_are_held_released_and_cancelled_by_their_labels(fed):
    mine = await made(fed, *(a_job(f"mine-{number}", labels={"of": "me"}, **GONE_NOWHERE) for number in range(3)))
    other = (await fed.submit(a_job("other", **GONE_NOWHERE)))["id"]
    assert (await fed.for_all("hold", label="of=me")) == {"matched": 3, "changed": 3, "jobs": sorted(mine, reverse=True)}
    assert (await fed.for_all("hold", label="of=me"))["changed"] == 0
    assert [(await fed.job(job))["is_held"] for job in (*mine, other)] == [True, True, True, False]
    assert (await fed.for_all("release", label="of=me"))["changed"] == 3
    assert (await fed.for_all("cancel", label="of=me"))["changed"] == 3
    for job in mine:
        assert (await fed.wait(job, 10))["phase"] == "cancelled"
    assert (await fed.job(other))["phase"] == "pending"
    with pytest.raises(InConflict):
        await fed.wish(mine[0], "hold")


async def test_no_filter_means_none_unless_all_is_said(fed):
    (await made(fed, a_job("one", **GONE_NOWHERE)))
    with pytest.raises(Invalid, match="no filter is given"):
        await fed.for_all("cancel")
    assert (await fed.for_all("cancel", all=True))["changed"] == 1
