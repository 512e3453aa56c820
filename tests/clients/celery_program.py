"""What Celery's users do, with a worker in a process of its own.

Usage: celery_program.py URL PREFIX; prints what it saw, one scenario a line.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import group
from celery.exceptions import TaskRevokedError

from tests.clients.scenarios import report

PATIENCE = 20


class Scenarios:
    """One method a scenario; all commands go to the one worker, for others may share the broker."""

    def __init__(self, url: str, prefix: str) -> None:
        os.environ.update(CELERY_BROKER=url, CELERY_QUEUE=f"{prefix}.tasks")
        from tests.clients import celery_tasks

        self.tasks = celery_tasks
        self.app = celery_tasks.app
        self.prefix = prefix
        self.host = f"{prefix}@localhost"
        self.worker = self.started()

    def started(self) -> subprocess.Popen[str]:
        """Start a worker, and wait until it says that it is ready."""
        command = f"celery -A tests.clients.celery_tasks worker --hostname {self.host} --pool threads --loglevel INFO"
        command = f"{command} --concurrency 2 --without-gossip --without-mingle"
        worker = subprocess.Popen(
            [sys.executable, "-m", *command.split()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert worker.stdout is not None
        output = ""
        while not output.endswith(" ready.\n"):
            line = worker.stdout.readline()
            assert line, f"the worker ended: {output}"
            output += line
        return worker

    def result(self) -> Any:
        return self.tasks.add.delay(2, 3).get(timeout=PATIENCE)

    def failure(self) -> Any:
        try:
            self.tasks.fail.delay("no luck").get(timeout=PATIENCE)
        except ValueError as error:
            return str(error)

    def retry(self) -> Any:
        return self.tasks.third_time_lucky.delay().get(timeout=PATIENCE)

    def countdown(self) -> Any:
        start = time.monotonic()
        result = self.tasks.add.apply_async((2, 3), countdown=0.4).get(timeout=PATIENCE)
        return [result, time.monotonic() - start >= 0.4]

    def eta(self) -> Any:
        at = datetime.now(UTC) + timedelta(seconds=0.4)
        result = self.tasks.add.apply_async((2, 3), eta=at).get(timeout=PATIENCE)
        return [result, datetime.now(UTC) >= at]

    def expires(self) -> Any:
        return self.is_revoked(self.tasks.add.apply_async((2, 3), expires=-1))

    def priority(self) -> Any:
        return self.tasks.add.apply_async((2, 3), priority=5).get(timeout=PATIENCE)

    def group(self) -> Any:
        return group(self.tasks.add.s(number, 1) for number in range(20)).apply_async().get(timeout=PATIENCE)

    def chain(self) -> Any:
        return (self.tasks.add.s(1, 2) | self.tasks.add.s(4)).apply_async().get(timeout=PATIENCE)

    def ping(self) -> Any:
        (answer,) = self.app.control.inspect([self.host]).ping().values()
        return answer

    def queues(self) -> Any:
        ((queue,),) = self.app.control.inspect([self.host]).active_queues().values()
        return [queue["name"], queue["durable"], queue["queue_arguments"]]

    def revoke(self) -> Any:
        result = self.tasks.add.apply_async((2, 3), countdown=1)
        self.app.control.revoke(result.id, destination=[self.host], reply=True)
        return self.is_revoked(result)

    def add_consumer(self) -> Any:
        """The worker is told, while it runs, to take a second queue."""
        queue = f"{self.prefix}.more"
        options = {"auto_delete": True, "durable": False}
        self.app.control.add_consumer(queue, destination=[self.host], options=options, reply=True)
        end = time.monotonic() + PATIENCE
        while queue not in self.taken() and time.monotonic() < end:  # it answers before it has done it
            pass
        return self.tasks.add.apply_async((2, 3), queue=queue, declare=[]).get(timeout=PATIENCE)

    def taken(self) -> set[str]:
        """The names of the queues that the worker takes tasks from."""
        (queues,) = self.app.control.inspect([self.host]).active_queues().values()
        return {queue["name"] for queue in queues}

    def events(self) -> Any:
        """What the worker tells those who watch it."""
        self.app.control.enable_events(destination=[self.host], reply=True)
        seen: list[str] = []
        wanted = ["task-received", "task-started", "task-succeeded"]

        def on_event(event: dict[str, Any]) -> None:
            if event["hostname"] == self.host and event["type"] in wanted:
                seen.append(event["type"])

        receiver = self.app.events.Receiver(self.app.connection_for_read(), handlers={"*": on_event})
        with receiver.connection, receiver.consumer_context() as (connection, *_):
            self.tasks.add.delay(2, 3)
            end = time.monotonic() + PATIENCE
            while len(seen) < len(wanted) and time.monotonic() < end:  # its heartbeats come, whatever happens
                connection.drain_events(timeout=PATIENCE)
        return seen

    def shutdown(self) -> Any:
        """The worker ends by itself, and its queue is deleted after it."""
        self.app.control.shutdown(destination=[self.host])
        self.worker.communicate(timeout=PATIENCE)
        with self.app.connection_for_write() as connection:
            left = connection.default_channel.queue_delete(os.environ["CELERY_QUEUE"])
        return [self.worker.returncode, left]

    def is_revoked(self, result: Any) -> bool:
        try:
            result.get(timeout=PATIENCE)
        except TaskRevokedError:
            return True
        return False


if __name__ == "__main__":
    scenarios = Scenarios(*sys.argv[1:])
    try:
        report(scenarios)
    finally:
        scenarios.worker.kill()
