"""A transaction of a channel: what was published and settled in it, until it is committed or rolled back.

https://www.rabbitmq.com/docs/semantics#tx; as in RabbitMQ, a commit publishes first, then settles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Settle = Callable[[Iterable[Any]], None]


class Transaction:
    """What waits for tx.commit."""

    __slots__ = ("_messages", "_settled")

    def __init__(self) -> None:
        self._messages: list[Callable[[], None]] = []
        self._settled: list[tuple[dict[int, Any], Settle]] = []

    def publish(self, deliver: Callable[[], None]) -> None:
        """Keep a message, as what will deliver it."""
        self._messages.append(deliver)

    def settle(self, held: dict[int, Any], how: Settle) -> None:
        """Keep deliveries by their tags, with what will settle them."""
        self._settled.append((held, how))

    def commit(self) -> None:
        """Do all that was kept."""
        messages, self._messages = self._messages, []
        settled, self._settled = self._settled, []
        for deliver in messages:
            deliver()
        for held, how in settled:
            how(held.values())

    def rollback(self) -> dict[int, Any]:
        """Forget all that was kept; return the deliveries, which are unacknowledged again."""
        self._messages.clear()
        settled, self._settled = self._settled, []
        return {tag: one for held, _ in settled for tag, one in held.items()}
