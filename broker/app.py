"""One broker process: store, records, loops and endpoint, built once, started and stopped together."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientSession, TCPConnector

from adapters.kinds import open_adapter
from broker import version
from broker.access import Tokens, TokensError, is_private
from broker.api.app import api
from broker.api.connections import listening
from broker.api.services import Services
from broker.clock import Clock, SystemClock
from broker.config import Settings, SettingsError, read_secret
from broker.context import Context
from broker.drains import Drains
from broker.duties import Duties, Loop, ended, keep_going
from broker.feed import Feed
from broker.housekeeping import Housekeeping
from broker.members import Members
from broker.metrics import Metrics
from broker.plan_crews import check_ray
from broker.plan_process import PlanProcess, Runner
from broker.planner import Planner
from broker.records import Member
from broker.sites.mover import FileMover
from broker.sites.registry import OpenAdapter, Registry
from broker.storage import SiteStorages
from broker.store.base import Store, StoreError
from broker.store.codec import FORMATS
from broker.store.embedded import embedded_etcd
from broker.store.etcd import EtcdStore, TlsSettings
from broker.store.keys import Keys
from broker.store.ledger import Ledger
from broker.store.mirror import Mirror
from broker.store.vitals import Vitals
from broker.submission import Submissions
from broker.tls import Identity, trusting
from broker.tracing.jobs import JobTraces
from broker.tracing.opening import opened_tracer
from broker.uploads import Uploads
from broker.whatif import WhatIfs
from broker.world import World

log = logging.getLogger(__name__)

COLLECT_AFTER = (20_000, 5, 100)
"""Allocations, and rounds, after which each generation of the garbage collector runs: at most some 100,000 objects are looked
through at a time, within tens of milliseconds. Records live long and hold no cycles: with Python's defaults a third of a busy
broker's time went into looking through them, and with rarer rounds one took longer than our lease."""

DRAIN_S = 5.0
"""How long requests under way may take when the broker stops."""
DOWNLOADS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Broker:
    """A running one. `url` is its endpoint."""

    url: str
    context: Context
    members: Members
    store: Store
    uploads: Uploads


@asynccontextmanager
async def running_broker(
    settings: Settings,
    store: Store | None = None,
    open_site: OpenAdapter | None = None,
    runner: Runner | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Broker]:
    """A broker for as long as the block lasts; it listens when the block begins, and is ready soon after.

    What is not given is the real thing: a store as the settings say, adapters by kind, plans made in a process of their own.
    Raises SettingsError, StoreError, and OSError for a port that is taken.
    """
    clock = clock or SystemClock()
    tokens = _tokens(settings, clock)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listener(settings))
        scheme = "https" if settings.tls else "http"
        url = settings.url or f"{scheme}://{settings.listen.host}:{listener.getsockname()[1]}"
        metrics, name = Metrics(), f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        tracer = await stack.enter_async_context(opened_tracer(settings, name, version(), metrics))
        records = store if store is not None else await stack.enter_async_context(opened_store(settings, clock))
        mirror = Mirror(records, Keys(settings.federation), clock)
        context = Context(settings, clock, World(mirror), Ledger(records, mirror, tracer), metrics, tracer)
        registry = _registry(stack, context, records, open_site)
        loops: dict[str, Loop] = {"mirror": mirror.run, "registry": registry.run}
        planner = Planner(context, runner or _plan_process(stack, context, loops))
        members = _members(Member(name, url, version(), FORMATS, clock.now()), context, records, planner, registry)
        vitals = Vitals(records, clock, settings.quota_bytes, settings.admission_share)
        loops["vitals"] = vitals.run
        await stack.enter_async_context(_running(loops, context))
        await stack.enter_async_context(_member(members, context))
        peers = await stack.enter_async_context(ClientSession(connector=_connector(settings)))
        submissions = Submissions(context, records, vitals)
        feed = Feed(context.world)
        uploads = Uploads(context, lambda: registry.owned)
        stack.callback(uploads.close)
        await stack.enter_async_context(_running({"uploads": uploads.run}, context))
        downloads = ThreadPoolExecutor(DOWNLOADS_AT_ONCE, thread_name_prefix="download")
        stack.callback(downloads.shutdown, wait=False, cancel_futures=True)
        asked = submissions, registry, planner, feed, peers, uploads, downloads, WhatIfs()
        services = Services(context, records, vitals, members, *asked, tokens)
        await stack.enter_async_context(_serving(services, listener, settings))
        yield Broker(url, context, members, records, uploads)
        log.info("stopping: what is under way is brought to its end, rights are handed over")


def run_until_signal(settings: Settings, on_start: Callable[[str], None]) -> None:
    """A broker until SIGINT or SIGTERM. `on_start` is told its URL. Raises what `running_broker` raises."""
    spare_the_collector()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run_until_signal(settings, on_start))


def spare_the_collector() -> None:
    """Look for cyclic garbage only among what is young: what is loaded by now, or outlives two generations, is not looked through
    again. A whole round over 100,000 jobs would hold the loop for more than a second."""

    def spare(phase: str, info: Mapping[str, int]) -> None:
        if phase == "stop" and info["generation"] == 1:
            gc.freeze()

    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    gc.callbacks.append(spare)


async def _run_until_signal(settings: Settings, on_start: Callable[[str], None]) -> None:
    is_over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, is_over.set)
    async with running_broker(settings) as broker:
        on_start(broker.url)
        await is_over.wait()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _tokens(settings: Settings, clock: Clock) -> Tokens | None:
    if settings.token_file is None:
        return None
    path = Path(settings.token_file)
    try:
        tokens = Tokens(path, clock)
        if settings.is_production and not is_private(path):
            raise SettingsError(f"token_file: others can read {path}: chmod 600 it")
    except TokensError as error:
        raise SettingsError(f"token_file: {error}") from error
    return tokens


def _listener(settings: Settings) -> socket.socket:
    """The socket, bound before anything else is begun: a port that is taken should stop us at once."""
    host, port = settings.listen.host, settings.listen.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise SettingsError(f"listen: {host}:{port}: {error.strerror}; choose another with --port") from error


@asynccontextmanager
async def opened_store(settings: Settings, clock: Clock) -> AsyncIterator[Store]:
    """etcd as the settings say: theirs, or one of our own below the data directory."""
    async with AsyncExitStack() as stack:
        etcd = settings.etcd
        endpoints = etcd.endpoints
        if not endpoints:
            if settings.data_dir is None:
                raise SettingsError("data_dir: name a directory for an embedded etcd, or etcd.endpoints of one that is there")
            embedded = embedded_etcd(
                Path(settings.data_dir),
                production=settings.is_production,
                quota_bytes=settings.quota_bytes,
                keep_revisions=settings.keep_history_revisions,
                clock=clock,
            )
            endpoints = ((await stack.enter_async_context(embedded)).endpoint,)
        is_tls = any(endpoint.startswith("https://") for endpoint in endpoints)
        tls = TlsSettings(_path(etcd.ca_file), _path(etcd.cert_file), _path(etcd.key_file)) if is_tls else None
        password = read_secret(etcd.password_file) if etcd.password_file else None
        try:
            store = EtcdStore(endpoints, clock=clock, tls=tls, user=etcd.user, password=password)
        except ValueError as error:
            raise SettingsError(f"etcd.endpoints: {error}") from error
        stack.push_async_callback(store.close)
        yield store


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None


def _registry(stack: AsyncExitStack, context: Context, store: Store, open_site: OpenAdapter | None) -> Registry:
    storages = SiteStorages()
    stack.callback(storages.close)
    moved = context.metrics.transfer_bytes

    def count(source: str, target: str, size: int) -> None:
        moved.labels(f"{source}:{target}").inc(size)

    open_site = open_site or (lambda site: open_adapter(site, context.settings.federation))
    mover = FileMover(storages, context.clock, count)
    registry = Registry(context, store, open_site, storages, storages, mover, random.Random())
    stack.push_async_callback(registry.close)
    return registry


def _plan_process(stack: AsyncExitStack, context: Context, loops: dict[str, Loop]) -> Runner:
    """Started beside all else: it takes a second."""
    check_ray(context.settings.planning)
    process = PlanProcess(context.metrics, context.settings.planning)
    stack.push_async_callback(process.close)
    loops["plan process"] = process.start
    return process


def _members(me: Member, context: Context, store: Store, planner: Planner, registry: Registry) -> Members:
    """What rights bring with them, and who holds them: each knows the other."""
    loops = {"planner": planner.run, "drains": Drains(context).run, "housekeeping": Housekeeping(context, store).run}
    if context.tracer.is_on:
        loops["traces"] = JobTraces(context).run
    duties = Duties(context, loops, registry)
    ttl_s = context.settings.lease_ttl_s
    members = Members(me, store, context.world, context.ledger, context.clock, ttl_s, duties.gain, duties.lose)
    duties.rights = registry.rights = members
    return members


@asynccontextmanager
async def _serving(services: Services, listener: socket.socket, settings: Settings) -> AsyncIterator[None]:
    """The endpoint: on leaving, no new requests, and those under way have DRAIN_S."""
    identity = Identity(settings.tls, services.context.clock) if settings.tls else None
    async with (
        listening(api(services), listener, identity.context if identity else None, DRAIN_S),
        _running({"certificate": identity.follow} if identity else {}, services.context),
    ):
        yield


def _connector(settings: Settings) -> TCPConnector:
    """To other members: their certificates are of the authority that the settings name, else of one that the machine trusts."""
    authority = settings.tls.ca_file if settings.tls else None
    return TCPConnector(ssl=trusting(authority) if authority else True)


@asynccontextmanager
async def _running(loops: Mapping[str, Loop], context: Context) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(keep_going(name, loop, context), name=name) for name, loop in loops.items()]
    try:
        yield
    finally:
        await ended(tasks)


@asynccontextmanager
async def _member(members: Members, context: Context) -> AsyncIterator[None]:
    """A member of the federation, once the records are known. On leaving, all rights are handed over."""

    async def run() -> None:
        await context.world.mirror.reached(1)
        await members.run()

    try:
        async with _running({"members": run}, context):
            yield
    finally:
        try:
            await members.leave()
        except StoreError as error:
            log.warning("the lease could not be given back and runs out instead: %s", error)
