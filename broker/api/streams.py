"""What a job wrote: its output as it comes, and its outputs as a tar archive. Both are read at the site, by its owner."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from aiohttp import web

from adapters.base import AdapterError, RunRef
from broker.api.finding import flag, job_of_request, whole_number
from broker.api.peers import pass_on
from broker.api.services import SERVICES, Services
from broker.api.streaming import stream
from broker.api.tar import tar_of
from broker.errors import Fault, InConflict, Invalid, NotFound, Unavailable
from broker.jobs.model import run_name
from broker.storage import StorageError
from broker.world import Job

routes = web.RouteTableDef()

LARGEST_OFFSET = 2**50
MOST_LINES = 100_000
MOST_TAIL_BYTES = 8 * 2**20
SITE_FAILURES = (AdapterError, StorageError)


@routes.get("/v1/jobs/{job}/logs", name="logs")
async def job_logs(request: web.Request) -> web.StreamResponse:
    """Bytes of one task's output from `offset` on; with `follow` until the task ends, with `tail` its last lines. `attempt` is
    the last unless named."""
    services = request.app[SERVICES]
    job = await job_of_request(request)
    last = job.state.number
    number = whole_number(request, "attempt", max(last, 1), 1, max(last, 1))
    task = whole_number(request, "task", 0, 0, max(job.spec.tasks - 1, 0))
    offset = whole_number(request, "offset", 0, 0, LARGEST_OFFSET)
    lines = whole_number(request, "tail", 0, 0, MOST_LINES) if "tail" in request.query else None
    is_followed = flag(request, "follow")
    if lines is not None and is_followed:
        raise Invalid(faults=[Fault("tail", "goes not with follow: ask for the tail, then follow from its offset")])
    if not last:
        raise InConflict(f"job {job.id} was not placed yet, so it has written nothing; see `fed why {job.id}`")
    attempt = job.state.attempt_of(number)
    if attempt is None:
        raise NotFound(f"attempt {number} of job {job.id} was withdrawn before it was sent, so it has written nothing")
    adapter = services.sites.adapter(attempt.site)
    if adapter is None:
        return await pass_on(request, services, attempt.site)
    ref = RunRef(run_name(services.context.settings.federation, job.id, number), attempt.native_id)
    chunks = adapter.logs(ref, task, offset, is_followed)
    if lines is not None:
        chunks = _tail(chunks, lines)
    return await _from_site(request, chunks, "application/octet-stream")


@routes.get("/v1/jobs/{job}/outputs", name="outputs")
async def job_outputs(request: web.Request) -> web.StreamResponse:
    """All outputs of a job that succeeded, as a tar archive with a directory for each."""
    services = request.app[SERVICES]
    job = await job_of_request(request)
    places = _places(services, job)
    site = next(iter(places.values()))[0]
    if services.sites.adapter(site) is None:
        return await pass_on(request, services, site)
    storage = services.context.world.sites[site].storage
    ended_at = job.state.finished_at or services.context.clock.now()
    archive = tar_of(storage, {name: path for name, (_, path) in places.items()}, ended_at, services.downloads)
    return await _from_site(request, archive, "application/x-tar")


def _places(services: Services, job: Job) -> dict[str, tuple[str, str]]:
    """By name of the output: the site that still has it, and the path there. Raises InConflict and NotFound."""
    world = services.context.world
    if not job.spec.outputs:
        raise NotFound(f"job {job.id} has no outputs: its spec names none")
    if not job.state.outputs:
        raise InConflict(f"job {job.id} is {job.state.phase}: only a job that succeeded has outputs")
    places = {}
    for dataset in job.state.outputs:
        replicas = world.replicas.get(dataset, {})
        replica = replicas.get(job.state.attempt.site) or next(iter(replicas.values()), None)
        if replica is None or replica.site not in world.sites:
            raise NotFound(f"no site has output {dataset} any more")
        places[dataset.name] = (replica.site, replica.path)
    return places


async def _tail(chunks: AsyncIterator[bytes], lines: int) -> AsyncGenerator[bytes, None]:
    """The last lines; no more than MOST_TAIL_BYTES of them."""
    kept = b""
    async for chunk in chunks:
        kept = (kept + chunk)[-MOST_TAIL_BYTES:]
    parts = kept.splitlines(keepends=True)
    yield b"".join(parts[len(parts) - lines :] if lines < len(parts) else parts)


async def _from_site(request: web.Request, chunks: AsyncIterator[bytes], content_type: str) -> web.StreamResponse:
    try:
        return await stream(request, _read(chunks), SITE_FAILURES, {"Content-Type": content_type})
    except SITE_FAILURES as error:
        raise Unavailable(f"the site does not give it just now: {error}") from error


async def _read(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        yield chunk
