"""What the adapter makes of a slurmrestd that misbehaves: each failure has its own words, and none is taken for an answer."""

import asyncio
import base64
import contextlib
import json
import time

import pytest
from aiohttp import web

from adapters.base import Accepted, Call, Layer, Refused, Run, Unknown, Unreachable
from adapters.slurm.adapter import open_slurm
from adapters.slurm.rest import Rest
from adapters.slurm.settings import RestSettings, SlurmSettings
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

CALL = Call(epoch=1, timeout_s=2.0)
RUN = Run("fed-j-a1", "fed", "j", "default", 1, Resources(1, 1), "cpu", ("true",))


def answers(status=200, body=None, text=None, headers=None):
    """A handler that says the same of everything but which dialect it speaks."""

    async def handle(request):
        if "v0.0.38" not in request.path:
            return web.Response(status=404, text="Unable find requested URL.")
        content = text if text is not None else json.dumps(body)
        return web.Response(status=status, text=content, content_type="application/json", headers=headers)

    return handle


def slurm_error(number, words, status=500):
    """As v0.0.38 says it."""
    return answers(status, {"errors": [{"error_code": number, "error": words}]})


@contextlib.asynccontextmanager
async def listening(handle):
    """A server that answers so; its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def speaking(handle, folder, token="secret", **rest):
    """An adapter that speaks to a server that answers so."""
    (folder / "token").write_text(token)
    async with listening(handle) as url:
        given = {"url": url, "user": "u", "token": {"file": str(folder / "token")}, **rest}
        where = Site("ams", Engine("slurm"), (Pool("cpu", 2, Resources(4, 8)),), Storage(f"file://{folder}"))
        adapter = open_slurm(where, SlurmSettings.model_validate({"rest": given}), "fed")
        try:
            yield adapter
        finally:
            await adapter.close()


@pytest.mark.parametrize(
    ("handle", "words"),
    [
        (answers(text="<html>Welcome</html>"), "no JSON"),
        (answers(text='{"jobs": ['), "no JSON"),
        (answers(body={"jobs": 7, "nodes": 7, "statistics": {}}), "no sense"),
        (answers(429, text="slow down", headers={"Retry-After": "30"}), "after 30"),
        (answers(401, text="Authentication failure"), "rest.token"),
        (answers(511, text="{}"), "scontrol token"),
        (slurm_error(-1, "Unspecified error"), "scontrol token"),
        (answers(502, text="Bad Gateway"), "502"),
    ],
)
async def test_what_is_no_answer_is_told_as_it_is_and_leaves_a_run_unknown(handle, words, tmp_path):
    async with speaking(handle, tmp_path) as adapter:
        with pytest.raises(Unreachable, match=words):
            await adapter.observe([], CALL)
        outcome = (await adapter.submit([RUN], CALL))[RUN.name]
        assert isinstance(outcome, Unknown)
        checks = await adapter.probe(2.0)
        assert not checks[-1].is_ok
        assert checks[-1].message


async def test_a_reply_without_end_is_given_up(tmp_path):
    async def handle(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 2**16)
        return response

    async with listening(handle) as url:
        settings = RestSettings.model_validate({"url": url, "user": "u", "token": {"env": "PATH"}, "version": "v0.0.38"})
        rest = Rest(settings, most_bytes=2**20)
        with pytest.raises(Unreachable, match="more than"):
            await rest.listing("fed-", 20.0)
        await rest.close()


async def test_a_reply_that_is_cut_is_no_answer(tmp_path):
    async def handle(request):
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"nodes": []}')
        request.transport.close()
        return response

    async with speaking(handle, tmp_path, version="v0.0.38") as adapter:
        with pytest.raises(Unreachable):
            await adapter.observe([], CALL)


async def test_silence_ends_with_the_callers_time(tmp_path):
    async def handle(request):
        await asyncio.sleep(60)

    async with speaking(handle, tmp_path, version="v0.0.38") as adapter:
        began = time.monotonic()
        assert isinstance((await adapter.submit([RUN], Call(1, 0.2)))[RUN.name], Unknown)
        with pytest.raises(Unreachable):
            await adapter.observe([], Call(1, 0.2))
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("handle", "outcome"),
    [
        (slurm_error(2000, "Invalid partition name specified"), Refused),
        (slurm_error(2014, "Requested node configuration is not available"), Refused),
        (slurm_error(2050, "Job violates accounting/QOS policy"), Unknown),
        (slurm_error(1800, "Unable to contact slurm controller (connect failure)"), Unknown),
        (slurm_error(5005, "Zero Bytes were transmitted or received"), Unknown),  # of a token that expired
        (answers(500, {"errors": [{"error_code": 2042, "error": "Job is in held state"}], "job_id": 7}), Accepted),
        (answers(body={"errors": [], "job_id": 21, "step_id": "BATCH"}), Accepted),
        (answers(body={"errors": [], "job_id": 0}), Unknown),
    ],
)
async def test_a_run_is_refused_only_by_slurms_own_word(handle, outcome, tmp_path):
    async with speaking(handle, tmp_path) as adapter:
        assert isinstance((await adapter.submit([RUN], CALL))[RUN.name], outcome)


async def test_an_expired_token_is_told_with_its_cure(tmp_path):
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() - 60, "sun": "u"}).encode()).decode().rstrip("=")
    async with speaking(slurm_error(-1, "Unspecified error"), tmp_path, token=f"h.{claims}.s") as adapter:
        failed = (await adapter.probe(2.0))[-1]
    assert (failed.layer, failed.is_misconfigured) == (Layer.LOGIN, True)
    assert "expired" in failed.message
    assert "scontrol token" in failed.message


async def test_a_token_that_was_renewed_is_used_at_once(tmp_path):
    seen = []

    async def handle(request):
        seen.append(request.headers["X-SLURM-USER-TOKEN"])
        return web.json_response({"errors": [], "job_id": 1})

    async with speaking(handle, tmp_path, token="old", version="v0.0.38") as adapter:
        await adapter.submit([RUN], CALL)
        (tmp_path / "token").write_text("new\n")
        await adapter.submit([RUN], CALL)
    assert seen == ["old", "new"]


async def test_a_token_that_is_missing_is_a_matter_of_our_settings(tmp_path):
    async with speaking(answers(body={}), tmp_path, token=" ") as adapter:
        failed = (await adapter.probe(2.0))[-1]
    assert (failed.layer, failed.is_misconfigured) == (Layer.LOGIN, True)


@pytest.mark.parametrize("spoken", ["v0.0.38", "v0.0.40", "v0.0.42"])
async def test_the_newest_dialect_that_is_spoken_is_asked_for_once(spoken, tmp_path):
    bodies, pings = [], []

    async def handle(request):
        if spoken not in request.path:
            return web.Response(status=404)
        if request.method == "POST":
            bodies.append(await request.json())
        else:
            pings.append(request.path)
        return web.json_response({"errors": [], "job_id": 1})

    async with speaking(handle, tmp_path) as adapter:
        await adapter.submit([RUN], CALL)
        await adapter.submit([RUN], CALL)
    assert len(pings) == 1
    environment = bodies[0]["job"]["environment"]
    assert isinstance(environment, dict) == (spoken == "v0.0.38")


async def test_at_most_so_many_requests_at_once(tmp_path):
    now, most = 0, 0

    async def handle(request):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return web.json_response({"errors": [], "job_id": 1})

    async with speaking(handle, tmp_path, version="v0.0.38", connections=3) as adapter:
        runs = [Run(f"fed-j{n}-a1", "fed", f"j{n}", "default", 1, Resources(1), "cpu", ("true",)) for n in range(12)]
        await adapter.submit(runs, CALL)
    assert most == 3


async def test_after_an_upgrade_the_dialect_is_asked_for_again(tmp_path):
    spoken = ["v0.0.38"]

    async def handle(request):
        if f"/slurm/{spoken[0]}/" not in request.path:
            return web.Response(status=404, text="Unable find requested URL.")
        if request.path.endswith("/job/submit"):
            return web.json_response({"job_id": 7, "errors": []})
        return web.json_response({"errors": [], "pings": [{"pinged": "UP", "ping": 0}]})

    async with speaking(handle, tmp_path) as adapter:
        assert isinstance((await adapter.submit([RUN], CALL))[RUN.name], Accepted)
        spoken[0] = "v0.0.40"
        assert isinstance((await adapter.submit([RUN], CALL))[RUN.name], Accepted)
        spoken[0] = "none"
        assert isinstance((await adapter.submit([RUN], CALL))[RUN.name], Unknown)
