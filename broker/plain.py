"""The SDK for programs without an event loop: every call of `broker.client.Client`, with its arguments and its errors.

    with PlainClient("http://127.0.0.1:7777") as fed:
        job = fed.submit({"name": "hello", "command": ["echo", "hello"]})
        print(fed.wait(job["id"])["phase"])
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from broker.client import DEFAULT_URL, PATIENCE_S, Client

P = ParamSpec("P")
T = TypeVar("T")


def _call(call: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[PlainClient, P], T]:
    """The same call, answered when it returns."""

    @wraps(call)
    def plain(self: PlainClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._runner.run(call(self._client, *args, **kwargs))

    return plain


def _stream(call: Callable[Concatenate[Client, P], AsyncIterator[T]]) -> Callable[Concatenate[PlainClient, P], Iterator[T]]:
    """The same stream, item by item; it ends with its iterator."""

    @wraps(call)
    def plain(self: PlainClient, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        items = call(self._client, *args, **kwargs)

        async def following() -> tuple[T] | None:
            try:
                return (await anext(items),)
            except StopAsyncIteration:
                return None

        async def end() -> None:
            if close := getattr(items, "aclose", None):
                await close()

        try:
            while (item := self._runner.run(following())) is not None:
                yield item[0]
        finally:
            self._runner.run(end())

    return plain


class PlainClient:
    """One endpoint of a federation, for one thread. Raises what `broker.errors` draws, and RuntimeError where an event loop runs
    already: use `Client` there."""

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, patience_s: float = PATIENCE_S, ca_file: str | None = None
    ) -> None:
        """As `Client`."""
        self._client = Client(url, token, patience_s, ca_file)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        try:
            self._runner.run(self._client.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._runner.run(self._client.__aexit__(kind, error, trace))
        finally:
            self._runner.close()

    submit = _call(Client.submit)
    plan = _call(Client.plan)
    what_if = _call(Client.what_if)
    job = _call(Client.job)
    jobs = _call(Client.jobs)
    cancel = _call(Client.cancel)
    wish = _call(Client.wish)
    unstick = _call(Client.unstick)
    backup = _stream(Client.backup)
    forget = _call(Client.forget)
    for_all = _call(Client.for_all)
    job_events = _call(Client.job_events)
    events = _stream(Client.events)
    why = _call(Client.why)
    wait = _call(Client.wait)
    logs = _stream(Client.logs)
    outputs = _stream(Client.outputs)
    put = _call(Client.put)
    upload = _call(Client.upload)
    upload_workdir = _call(Client.upload_workdir)
    etag = _call(Client.etag)
    get = _call(Client.get)
    list = _call(Client.list)
    delete = _call(Client.delete)
    cordon = _call(Client.cordon)
    drain = _call(Client.drain)
    test = _call(Client.test)
    path = _call(Client.path)
    health = _call(Client.health)
    pause = _call(Client.pause)
    audit = _call(Client.audit)
    resume = _call(Client.resume)
