"""A Celery application as its users write it: a few tasks, and results by rpc://."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

import os
from typing import Any

from celery import Celery

app = Celery("clients", broker=os.environ["CELERY_BROKER"], backend="rpc://")
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
    result_expires=60,
    task_acks_late=True,
    task_default_queue=os.environ["CELERY_QUEUE"],
    task_queue_max_priority=5,
)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def fail(text: str) -> None:
    raise ValueError(text)


@app.task(bind=True, max_retries=3)
def third_time_lucky(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)
