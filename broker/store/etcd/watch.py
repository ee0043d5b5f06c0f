"""Following etcd's history. A stream that says nothing is asked for a sign of life; one that gives none is an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from broker.store.base import Batch, Behind, Compacted, Record, Removed, StoreUnavailable, Written
from broker.store.etcd import rpc_pb2 as rpc
from broker.store.etcd.channel import WATCH, Connection, meaning


async def watch(connection: Connection, prefix: tuple[str, str], revision: int, silence_s: float) -> AsyncIterator[Batch]:
    """See `Store.watch`. After `silence_s` a sign of life is asked for, after as long again the stream is given up."""
    stream = await connection.stream(WATCH)
    try:
        key, range_end = prefix
        create = rpc.WatchCreateRequest(key=key, range_end=range_end, start_revision=revision)
        await stream.write(rpc.WatchRequest(create_request=create))
        while True:
            reply = await _next(stream, silence_s)
            if reply.canceled and reply.compact_revision:
                raise Compacted(f"revision {revision} is gone, the oldest is {reply.compact_revision}", reply.compact_revision)
            if reply.canceled:
                raise StoreUnavailable(f"etcd cancelled the watch: {reply.cancel_reason or 'no reason given'}")
            if reply.created:
                # etcd itself waits in silence for a revision that is yet to come.
                if reply.header.revision < revision - 1:
                    raise Behind(f"etcd is at revision {reply.header.revision}, and {revision - 1} was seen")
                yield Batch(revision - 1, ())
            # A header's revision may be ahead of the events sent so far (catching up, and progress before 3.5.8): not used.
            if reply.events:
                events = [_event(event) for event in reply.events]
                yield Batch(reply.events[-1].kv.mod_revision, events)
    except StoreUnavailable:
        connection.distrust()
        raise
    except grpc.aio.AioRpcError as error:
        connection.distrust()
        raise StoreUnavailable(str(meaning(error, WATCH.path))) from error
    except asyncio.InvalidStateError as error:  # a write to a stream that is over
        connection.distrust()
        raise StoreUnavailable("the watch ended") from error
    finally:
        stream.cancel()


async def _next(stream: Any, silence_s: float) -> rpc.WatchResponse:
    """The next reply. A read cannot be waited for with a timeout of asyncio's: that would cancel the whole stream."""
    read = asyncio.ensure_future(stream.read())
    try:
        done, _ = await asyncio.wait({read}, timeout=silence_s)
        if not done:
            await stream.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
            done, _ = await asyncio.wait({read}, timeout=silence_s)
    finally:
        if not read.done():
            read.cancel()
            await asyncio.wait({read})
    if not done:
        raise StoreUnavailable(f"the watch was silent for {2 * silence_s} s, even when asked")
    reply = read.result()
    if reply is grpc.aio.EOF:
        raise StoreUnavailable("the watch ended")
    assert isinstance(reply, rpc.WatchResponse)
    return reply


def _event(event: rpc.Event) -> Written | Removed:
    kv = event.kv
    if event.type == rpc.Event.DELETE:
        return Removed(kv.key, kv.mod_revision)
    return Written(Record(kv.key, kv.value, kv.mod_revision, kv.create_revision))
