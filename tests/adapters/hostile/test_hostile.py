"""Every adapter that speaks HTTP against something that is not its engine, or not any more."""

import asyncio
import time
import tracemalloc

import pytest

from adapters.base import Call, Layer, Run, RunRef, Unknown, Unreachable
from adapters.kinds import open_adapter
from tests.adapters.hostile.server import WRONG, serving
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

pytestmark = pytest.mark.engines  # minutes of waiting: with the engines, not before every commit
TIME_S = 1.0
LATE_S = 6.0
"""What a busy machine may take beyond the deadline."""
MOST_SENT = 320 * 2**20
REPLIES = sorted(WRONG)


def settings_of(kind, url, secret):
    token = {"file": str(secret)}
    return {
        "kubernetes": {"server": {"url": url, "token": token}, "image": "debian"},
        "ray": {"url": url, "token": token},
        "slurm": {"rest": {"url": url, "user": "fed", "token": token}},
        "yarn": {"resource_manager": [url], "token": token},
    }[kind]


KINDS = ("kubernetes", "ray", "slurm", "yarn")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
async def opened(kind, tmp_path):
    """An adapter to whatever is at this address."""
    (tmp_path / "token").write_text("a-token")
    (tmp_path / "storage").mkdir()

    adapters = []

    def opened(url):
        engine = Engine(kind, settings_of(kind, url, tmp_path / "token"))
        site = Site("ams", engine, (Pool("cpu", 1, Resources(4, 8)),), Storage(f"file://{tmp_path}/storage"))
        adapters.append(open_adapter(site, "fed"))
        return adapters[-1]

    yield opened
    for adapter in adapters:
        await adapter.close()


CALL = Call(epoch=1, timeout_s=TIME_S)
RUN = Run("fed-j1-a1", "fed", "j1", "default", 1, Resources(1, 1), "cpu", ("true",), native_id="application_1_0001")
REF = RunRef(RUN.name, "application_1_0001")


async def _logs(adapter):
    return b"".join([chunk async for chunk in adapter.logs(REF, 0, 0, False)])


CALLS = {
    "submit": lambda adapter: adapter.submit([RUN], CALL),
    "observe": lambda adapter: adapter.observe([REF], CALL),
    "cancel": lambda adapter: adapter.cancel([REF], CALL),
    "forget": lambda adapter: adapter.forget([REF], CALL),
}


async def in_time(awaitable, most_s=TIME_S):
    """What it comes to, if that takes no longer than it may."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(most_s + LATE_S + 30):
            return await awaitable
    finally:
        took = time.monotonic() - began
        assert took < most_s + LATE_S, f"it took {took:.1f} s"


@pytest.mark.parametrize("wrong", REPLIES)
async def test_each_call_ends_in_its_time_and_says_that_nothing_is_known(opened, wrong):
    async with serving(WRONG[wrong]) as server:
        adapter = opened(server.url)
        told = {}
        for name, call in CALLS.items():
            try:
                answer = await in_time(call(adapter))
            except Unreachable as error:
                told[name] = str(error)
                continue
            if name == "submit":
                assert isinstance(answer[RUN.name], Unknown), answer
                told[name] = answer[RUN.name].reason
            else:
                told[name] = f"{answer!r} where nothing was known"
                assert name in ("cancel", "forget"), told[name]
                assert wrong in ACCEPTABLE_SILENCE, told[name]
        assert server.requests or wrong == "elsewhere"
        assert server.longest_reply < MOST_SENT
        assert all(told.values()), told


ACCEPTABLE_SILENCE = ("404", "empty-object")
"""Replies by which a cancel or a forget may take the run for gone, or for asked: both are over only when a listing says so."""


@pytest.mark.parametrize("wrong", REPLIES)
async def test_a_probe_tells_the_layer_that_fails_in_words(opened, wrong):
    async with serving(WRONG[wrong]) as server:
        adapter = opened(server.url)
        *passed, failing = await in_time(adapter.probe(TIME_S))
    assert all(check.is_ok for check in passed)
    assert not failing.is_ok
    assert len(failing.message) > 10
    assert failing.layer is list(Layer)[len(passed)]


@pytest.mark.parametrize("wrong", ["401", "403"])
async def test_a_login_that_is_not_taken_is_told_with_its_cure(opened, wrong):
    async with serving(WRONG[wrong]) as server:
        adapter = opened(server.url)
        failing = (await in_time(adapter.probe(TIME_S)))[-1]
    assert (failing.layer, failing.is_misconfigured) == (Layer.LOGIN, True)
    assert any(word in failing.message for word in ("token", "login", "password"))


async def test_a_token_that_is_not_there_is_told_with_its_place(opened, tmp_path):
    async with serving(WRONG["401"]) as server:
        adapter = opened(server.url)
        (tmp_path / "token").unlink()
        failing = (await in_time(adapter.probe(TIME_S)))[-1]
        with pytest.raises(Unreachable):
            await in_time(adapter.observe([], CALL))
    assert (failing.is_ok, failing.is_misconfigured) == (False, True)
    assert str(tmp_path / "token") in failing.message


async def test_one_that_has_too_much_to_do_is_told_with_its_time(opened):
    async with serving(WRONG["429"]) as server:
        adapter = opened(server.url)
        with pytest.raises(Unreachable, match="17"):
            await in_time(adapter.observe([], CALL))


@pytest.mark.parametrize("wrong", ["html", "401", "403", "500", "endless", "truncated", "never", "list-of-numbers"])
async def test_output_that_cannot_be_had_is_unreachable_or_nothing(opened, wrong):
    async with serving(WRONG[wrong]) as server:
        adapter = opened(server.url)
        try:
            assert await in_time(_logs(adapter), most_s=20) == b""
        except Unreachable as error:
            assert str(error)  # noqa: PT017 - either will do


async def test_an_endless_reply_does_not_fill_the_memory(opened):
    async with serving(WRONG["endless"]) as server:
        adapter = opened(server.url)
        tracemalloc.start()
        try:
            with pytest.raises(Unreachable):
                await adapter.observe([], Call(epoch=1, timeout_s=20))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MOST_SENT
        assert server.longest_reply < MOST_SENT


async def test_nothing_is_left_running_when_it_was_closed(opened):
    before = asyncio.all_tasks()
    async with serving(WRONG["500"]) as server:
        adapter = opened(server.url)
        with pytest.raises(Unreachable):
            await adapter.observe([], CALL)
        await adapter.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
