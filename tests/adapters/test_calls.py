"""One call as many requests."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from adapters.base import Accepted, Call, Outcome, Refused, Run, Unknown, Unreachable
from adapters.calls import deadline_of, each, parsed, seconds_left, submit_each, unreachable_alone, whole_body, within
from tests.adapters.hostile.server import saying, serving
from topology.resources import Resources


def a_run(name: str) -> Run:
    return Run(f"fed-{name}-a1", "fed", name, "default", 1, Resources(1), "cpu", ("true",))


def test_a_call_has_its_time_and_then_none():
    assert 9 < seconds_left(deadline_of(Call(epoch=1, timeout_s=10))) <= 10
    with pytest.raises(Unreachable, match="took too long"):
        seconds_left(time.monotonic() - 0.001)


async def test_each_is_acted_on_so_many_at_once_and_answered_in_order():
    at_work, most = 0, 0

    async def act(number: int) -> int:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        for _ in range(10 - number):  # the last are done first
            await asyncio.sleep(0)
        at_work -= 1
        return number * number

    assert await each(act, range(10), at_once=3) == [number * number for number in range(10)]
    assert most == 3
    assert await each(act, [], at_once=3) == []


async def test_the_first_failure_ends_the_others_and_is_raised_alone():
    ended, begun = [], []

    async def act(number: int) -> None:
        begun.append(number)
        try:
            if number == 1:
                raise Unreachable("gone")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(number)
            raise

    with pytest.raises(Unreachable, match="gone"):
        await each(act, range(10), at_once=3)
    assert begun == [0, 1, 2]
    assert sorted(ended) == [0, 2]


async def test_each_run_has_its_own_outcome():
    async def send(run: Run) -> Outcome:
        match run.job:
            case "good":
                return Accepted("7")
            case "bad":
                return Refused("too large")
            case _:
                raise Unreachable("no answer")

    outcomes = await submit_each(send, [a_run("good"), a_run("bad"), a_run("late")], at_once=2)
    assert outcomes == {"fed-good-a1": Accepted("7"), "fed-bad-a1": Refused("too large"), "fed-late-a1": Unknown("no answer")}


async def test_where_no_run_was_answered_the_site_is_not_reached():
    async def send(run: Run) -> Outcome:
        raise Unreachable(f"{run.job}: no answer")

    with pytest.raises(Unreachable, match="one: no answer"):
        await submit_each(send, [a_run("one"), a_run("two")], at_once=1)
    assert await submit_each(send, [], at_once=1) == {}


def test_of_nested_groups_the_first_unreachable_is_raised():
    inner = ExceptionGroup("inner", [Unreachable("first"), Unreachable("second")])
    with pytest.raises(Unreachable, match="first"), unreachable_alone():
        raise ExceptionGroup("outer", [inner, Unreachable("third")])


def test_an_error_of_our_own_is_not_taken_for_a_site_that_is_out_of_reach():
    bug = ExceptionGroup("both", [Unreachable("no answer"), KeyError("name")])
    with pytest.raises(ExceptionGroup) as raised, unreachable_alone():
        raise bug
    assert raised.value is bug


async def test_a_block_that_takes_too_long_is_unreachable_and_other_timeouts_stay_what_they_are():
    with pytest.raises(Unreachable, match=r"^GET /jobs: no answer within 0\.1 s$"):
        async with within(0.01, "GET /jobs"):
            await asyncio.Event().wait()
    with pytest.raises(TimeoutError, match="of the socket"):
        async with within(10):
            raise TimeoutError("of the socket")


def test_what_is_no_json_is_told_by_its_beginning():
    assert parsed("GET /jobs", b'{"jobs": []}', "?") == {"jobs": []}
    for body in (b"<html>", b"", b"\xff", b"[" * 100_000):
        with pytest.raises(Unreachable, match=r"GET /jobs: no JSON in the answer, which begins b.*; is it Ray\?"):
            parsed("GET /jobs", body, "is it Ray?")


@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1])
async def test_a_reply_is_read_to_its_end_or_to_what_it_may_be(size):
    async with serving(saying(200, "x" * size)) as server, aiohttp.ClientSession() as session, session.get(server.url) as reply:
        if size <= 2**20:
            assert len(await whole_body(reply, 2**20)) == size
        else:
            with pytest.raises(Unreachable, match="more than 1 MiB"):
                await whole_body(reply, 2**20)
