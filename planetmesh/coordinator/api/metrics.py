"""`/metrics`: the mesh in numbers, for Prometheus."""

from __future__ import annotations

import asyncio
from copy import copy
from functools import partial

from aiohttp import web

from planetmesh import logs
from planetmesh.coordinator.api.call import Call

ACCEPT_MOST = 1000
"""Characters of a header; Prometheus sends some two hundred."""


async def show_metrics(call: Call) -> web.StreamResponse:
    """Taken on the loop, put into words beside it: a scrape holds nobody up."""
    # The library is for those who are asked for metrics.
    from planetmesh.coordinator import metrics

    parts, engine = call.parts, call.parts.engine
    own, depot, feed = parts.enrolment.coordinator.membership, parts.depot, engine.feed.size
    blobs = await depot.ledger.totals()
    storage = metrics.Storage(
        databases={
            "mesh": engine.store.sizes(),
            "outputs": engine.outputs.sizes(),
            "blobs": depot.ledger.sizes(),
        },
        blobs=blobs.blobs,
        blob_bytes=blobs.size,
        works=not engine.storage_error,
    )
    traffic = metrics.Traffic(
        blob_bytes_in=depot.bytes_in,
        blob_bytes_out=depot.bytes_out,
        feed_number=feed.number,
        feed_bytes=feed.kept_bytes,
        feed_subscribers=feed.subscribers,
        connections=len(parts.access.connections),
    )
    picture = metrics.take_picture(
        engine.state, engine.meters, own.mesh_name, own.mesh_id, storage, traffic, copy(logs.counts())
    )
    accept = call.request.headers.get("Accept", "")[:ACCEPT_MOST]
    body, content_type = await asyncio.to_thread(partial(metrics.render, picture, accept))
    return web.Response(body=body, headers={"Content-Type": content_type})
