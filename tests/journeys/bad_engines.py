"""Sites whose engine, login or storage is wrong in one way each, and the servers that stand for them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import asyncssh
from aiohttp import web

from broker.store.embedded import free_ports
from tests.adapters.hostile.server import WRONG, Wrong, saying_json, serving
from tests.engines.lsf.cluster import LsfCluster
from tests.engines.s3.server import ObjectStore
from tests.running import Up

HOUR_S = 3600
POOL = {"name": "cpu", "nodes": 1, "per_node": {"cpus": 4, "memory_gib": 8}}
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Parts:
    """What bad sites are made of. `at` has the URL of each server that goes wrong."""

    folder: Path
    at: Mapping[str, str]
    lsf: LsfCluster
    store: ObjectStore
    ssh_port: int
    closed_port: int

    def secret(self, name: str, text: str) -> dict[str, str]:
        """By reference, as settings want it."""
        path = self.folder / name
        path.write_text(text)
        return {"file": str(path)}

    def storage(self, name: str) -> dict[str, str]:
        """A folder that is there."""
        path = self.folder / "storage" / name
        path.mkdir(parents=True, exist_ok=True)
        return {"url": f"file://{path}"}

    def login_node(self, port: int) -> dict[str, Any]:
        """A user's settings for SSH to this port."""
        host_key = asyncssh.read_private_key(self.folder / "host_key").export_public_key().decode()
        known_hosts = self.folder / "known_hosts"
        known_hosts.write_text(f"* {host_key}")
        return {"user": "ana", "key": {"file": str(self.folder / "host_key")}, "known_hosts": str(known_hosts)}


def a_token(expires_at: float) -> str:
    """A JWT that says when it ends, as Slurm's do."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"exp": int(expires_at), "sun": "fed"}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".c2lnbmVk"


def slurm(parts: Parts, name: str, url: str, token: str = "a-token") -> Document:
    """A Slurm site by REST."""
    rest = {"url": url, "user": "fed", "token": parts.secret(f"{name}.token", token)}
    return _site(name, {"kind": "slurm", "rest": rest}, parts.storage(name))


def kubernetes(parts: Parts, name: str, url: str, **settings: Any) -> Document:
    """A Kubernetes site."""
    server = {"url": url, "token": parts.secret(f"{name}.token", "a-token")}
    return _site(name, {"kind": "kubernetes", "server": server, "image": "debian", **settings}, parts.storage(name))


def ray(parts: Parts, name: str, url: str) -> Document:
    """A Ray site."""
    engine = {"kind": "ray", "url": url, "token": parts.secret(f"{name}.token", "a-token")}
    return _site(name, engine, parts.storage(name))


def yarn(parts: Parts, name: str, url: str, storage: Document | None = None) -> Document:
    """A YARN site. Its nodes see its storage at a folder of theirs."""
    engine = {"kind": "yarn", "resource_manager": [url], "mount": "/mnt"}
    return _site(name, engine, storage or parts.storage(name))


def lsf(parts: Parts, name: str, storage: Document | None = None, **settings: Any) -> Document:
    """An LSF site: our stand-in. Its hosts see its storage at a folder that is there."""
    mount = parts.storage(name)["url"].removeprefix("file://")
    engine = {"kind": "lsf", "bin": str(parts.lsf.bin), "mount": mount, **settings}
    return _site(name, engine, storage or parts.storage(name))


def process(parts: Parts, name: str) -> Document:
    """A site that is well."""
    return _site(name, {"kind": "process"}, parts.storage(name))


def _site(name: str, engine: Document, storage: Document) -> Document:
    return {"kind": "Site", "name": name, "engine": engine, "pools": [POOL], "storage": storage}


async def an_api_server(server: object, request: web.Request) -> web.StreamResponse:
    """A Kubernetes that lets us do all and has no namespace."""
    if request.path == "/version":
        return web.json_response({"major": "1", "minor": "33"})
    if request.path.endswith("/selfsubjectaccessreviews"):
        return web.json_response({"status": {"allowed": True}}, status=201)
    name = request.path.rpartition("/")[2]
    words = {"kind": "Status", "reason": "NotFound", "message": f'namespaces "{name}" not found', "code": 404}
    return web.json_response(words, status=404)


async def a_resource_manager(server: object, request: web.Request) -> web.StreamResponse:
    """A YARN that is well, with a node and nothing on it."""
    told = {
        "info": {"clusterInfo": {"haState": "ACTIVE", "startedOn": 1}},
        "scheduler": {"scheduler": {"schedulerInfo": {"type": "fifoScheduler"}}},
        "nodes": {"nodes": {"node": [{"id": "node-1:45454", "state": "RUNNING"}]}},
        "apps": {"apps": None},
    }
    return web.json_response(told[request.path.rpartition("/")[2]])


async def an_hour_ahead(server: object, request: web.Request) -> web.StreamResponse:
    """The same with a clock that is wrong."""
    reply = await a_resource_manager(server, request)
    reply.headers["Date"] = formatdate(time.time() + HOUR_S, usegmt=True)
    return reply


SERVERS: Mapping[str, Wrong] = {
    **{name: WRONG[name] for name in ("401", "403", "html", "429", "never", "endless", "truncated")},
    "json": saying_json({}),
    "yarn": a_resource_manager,
    "yarn-ahead": an_hour_ahead,
    "kubernetes": an_api_server,
}


@contextmanager
def bad_parts(folder: Path) -> Iterator[Parts]:
    """All of them, as long as it lasts."""
    folder.mkdir()
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(folder / "host_key")
    cluster, store = LsfCluster(folder), ObjectStore(folder)
    with _served(folder) as (at, ssh_port):
        cluster.start()
        try:
            yield Parts(folder, at, cluster, store.start(), ssh_port, free_ports(1)[0])
        finally:
            store.stop()
            cluster.stop()


@contextmanager
def _served(folder: Path) -> Iterator[tuple[Mapping[str, str], int]]:
    """Every server that goes wrong, and an SSH server that lets nobody in, in a thread of their own."""
    begun: list[tuple[Mapping[str, str], int]] = []
    is_begun = threading.Event()
    loop = asyncio.new_event_loop()
    is_over = asyncio.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            urls = {name: (await stack.enter_async_context(serving(wrong))).url for name, wrong in SERVERS.items()}
            ssh = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[str(folder / "host_key")])
            await stack.enter_async_context(ssh)
            begun.append((urls, ssh.get_port()))
            is_begun.set()
            await is_over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    is_begun.wait(30)
    try:
        yield begun[0]
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
        loop.close()


@contextmanager
def running(up: Up) -> Iterator[Up]:
    """A broker, and in the end neither it nor the engines that it started."""
    up.start()
    try:
        yield up
    finally:
        up.kill()
        for pid in up.folder.glob("parts/storage/*/.fed/engine/daemon.pid"):
            os.kill(int(pid.read_text()), signal.SIGTERM)
