"""A channel of pika that sends and takes whole messages, with properties as bytes."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import pika

PATIENCE = 30.0
"""Seconds that an answer may take."""


class Exactly(pika.BasicProperties):  # type: ignore[misc]  # pika has no types
    """Properties that travel as these bytes."""

    def __init__(self, header: bytes) -> None:
        super().__init__()
        self._header = header

    def encode(self) -> list[bytes]:
        return [self._header]


class Line:
    """Consumes one queue, and publishes to any."""

    def __init__(self, url: str, queue: str, *, exclusive: bool) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel: Any = self._connection.channel()
        self._channel.queue_declare(queue, exclusive=exclusive, auto_delete=True)
        self._arrivals = self._channel.consume(queue, auto_ack=True, inactivity_timeout=PATIENCE)

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def send(self, queue: str, header: bytes, body: bytes) -> None:
        self._channel.basic_publish("", queue, body, Exactly(header))

    def take(self) -> tuple[Any, bytes, bytes]:
        """The next message: its properties, the same as bytes, and the body."""
        method, properties, body = next(self._arrivals)
        assert method is not None, f"nothing came within {PATIENCE:.0f} s"
        return properties, b"".join(properties.encode()), body

    def is_quiet(self) -> bool:
        """Whether nothing else has come."""
        self._connection.process_data_events(0.05)
        return not self._channel.get_waiting_message_count()
