"""Asks queues how they are, on a channel that is in no transcript."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from tests.differential.language import Call, DeclareQueue
from tests.differential.link import Link
from tests.differential.wire import KINDS

NOT_FOUND = 404


def arguments_of(operation: Call) -> dict[str, Any]:
    """Return the arguments of the operation's method."""
    return {name: getattr(operation, name, "") for name in KINDS[operation.method].arguments}


class Prober:
    """Declares queues passively: the answer comes when the queue has done what it was told before."""

    def __init__(self, link: Link, number: int) -> None:
        self.link = link
        self.counts: dict[str, tuple[int, int]] = {}
        """Messages and consumers of the queues that answered."""
        self.absent: set[str] = set()
        self.locked: set[str] = set()
        self._number = number
        self._channel = link.channel(number)
        self._channel.hidden = True
        self._waiting: deque[str] = deque()

    def ask(self, queues: Iterable[str]) -> None:
        for answers in (self.counts, self.absent, self.locked):
            answers.clear()
        self._waiting.extend(queues)
        self._send()

    def answered(self) -> bool:
        """Take in the answers; return whether there is one for each queue."""
        while self._channel.methods:
            method = self._channel.methods.popleft()
            if method.name == "queue.declare-ok":
                counts = (method.arguments["message_count"], method.arguments["consumer_count"])
                self.counts[self._waiting.popleft()] = counts
            elif method.name == "channel.close":
                refusals = self.absent if method.arguments["reply_code"] == NOT_FOUND else self.locked
                refusals.add(self._waiting.popleft())
                self._send()
        if self.link.ended:
            self._waiting.clear()
        return not self._waiting

    def _send(self) -> None:
        if self._waiting and not self._channel.open:
            self.link.send_method(self._number, "channel.open", out_of_band="")
        for queue in self._waiting:
            self.link.send_method(self._number, "queue.declare", **arguments_of(DeclareQueue(queue, passive=True)))
