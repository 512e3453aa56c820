"""A transaction of a channel: what was published and settled in it, until it is committed or rolled back.

https://www.rabbitmq.com/docs/semantics#tx
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .channel import Held
    from .message import Message
    from .queue import Queue
    from .routes import Route

    Published = tuple[Message, Route, tuple[Queue, ...]]
    Settled = tuple[dict[int, Held], Callable[[list[Held]], None]]


class Transaction:
    """What waits for tx.commit."""

    __slots__ = ("_published", "_settled")

    def __init__(self) -> None:
        self._published: list[Published] = []
        self._settled: list[Settled] = []

    def publish(self, message: Message, route: Route, targets: tuple[Queue, ...]) -> None:
        """Keep a message, with the queues that it is for."""
        self._published.append((message, route, targets))

    def settle(self, held: dict[int, Held], how: Callable[[list[Held]], None]) -> None:
        """Keep deliveries by their tags, with what will settle them."""
        self._settled.append((held, how))

    def take(self) -> tuple[list[Published], list[Settled]]:
        """Hand over all that was kept, to be done or forgotten, and begin anew."""
        published, self._published = self._published, []
        settled, self._settled = self._settled, []
        return published, settled
