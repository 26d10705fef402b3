"""The task of `peer_calls.py` as Celery's worker imports it."""

from __future__ import annotations

import os

from celery import Celery

_URL = os.environ.get("CALLS_REDIS", "")
app = Celery("calls", broker=_URL, backend=_URL)
app.conf.broker_connection_retry_on_startup = True


@app.task(name="same")
def same(x: int) -> int:
    return x
