"""Random sequences of operations: few names, so that things meet, and few mistakes, so that much happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.differential.language import (
    A1,
    A2,
    B1,
    Ack,
    At,
    BindExchange,
    BindQueue,
    Cancel,
    CloseChannel,
    CloseConnection,
    ConfirmSelect,
    Consume,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Flow,
    Get,
    Nack,
    Operation,
    Publish,
    PurgeQueue,
    Qos,
    Recover,
    Reject,
    Together,
    TxCommit,
    TxRollback,
    TxSelect,
    UnbindExchange,
    UnbindQueue,
    Wait,
)

T = TypeVar("T")

CHANNELS = (A1, A2, B1)
QUEUES = ("p", "q", "dead")
EXCHANGES = ("direct", "fanout", "topic", "headers")
"""By their types, too."""
KEYS = ("a", "a.b", "q", "")
PATTERNS = ("a", "a.*", "#", "*.b", "q", "")
HEADERS = ({"n": 1}, {"n": 2, "m": "x"}, {"CC": ["p"]}, {"BCC": ["q"], "n": 1})
BODIES = ("1", "22", "333", "4444", "")
SHORT_LIFE = 300
"""Milliseconds: longer than a sequence that does not wait takes, and shorter than `LONG_WAIT`."""
LONG_WAIT = 450
DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
KINDS_OF_QUEUE: tuple[dict[str, Any], ...] = (
    {},
    {"durable": True},
    {"exclusive": True},
    {"auto_delete": True},
    {"arguments": DEAD},
    {"arguments": {"x-max-length": 2}},
    {"arguments": {"x-max-length": 2, **DEAD}},
    {"arguments": {"x-max-length": 1, "x-overflow": "reject-publish"}},
    {"arguments": {"x-max-length": 1, "x-overflow": "reject-publish-dlx", **DEAD}},
    {"arguments": {"x-max-length-bytes": 5}},
    {"arguments": {"x-max-priority": 3}},
    {"arguments": {"x-max-priority": 3, "x-max-length": 2, **DEAD}},
    {"arguments": {"x-single-active-consumer": True}},
    {"arguments": {"x-message-ttl": 0}},
    {"arguments": {"x-message-ttl": 0, **DEAD}},
    {"arguments": {"x-message-ttl": SHORT_LIFE, **DEAD}},
    {"arguments": {"x-message-ttl": 60000, "x-expires": 60000}},
    {"arguments": {"x-dead-letter-exchange": "fanout"}},
)
LONGEST = 25


class Composer:
    """Chooses operations, and remembers what was chosen so that most of them make sense."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._kinds: dict[str, dict[str, Any]] = {}
        """How queues were declared."""
        self._exchanges: list[str] = []
        self._modes: dict[At, str] = {}
        """Channels that confirm, and those with transactions."""

    def compose(self) -> tuple[Operation, ...]:
        operations = self._setup()
        choices, weights = zip(*self._choices().items(), strict=True)
        for _ in range(self._random.randint(8, LONGEST)):
            (choice,) = self._random.choices(choices, weights)
            operations.append(choice())
        return tuple(operations)

    def _setup(self) -> list[Operation]:
        operations: list[Operation] = []
        for queue in QUEUES:
            if queue == "q" or not self._seldom():
                self._kinds[queue] = self._one(KINDS_OF_QUEUE)
                operations.append(DeclareQueue(queue, **self._kinds[queue]))
        for exchange in EXCHANGES:
            if self._often():
                self._exchanges.append(exchange)
                operations.append(DeclareExchange(exchange, exchange, auto_delete=self._seldom()))
                operations.append(self._bind(exchange))
        return operations

    def _choices(self) -> dict[Callable[[], Operation], int]:
        return {
            self._publish: 24,
            self._publish_several: 4,
            self._consume: 11,
            lambda: Cancel(self._tag(self._queue()), at=self._at()): 2,
            lambda: Get(self._queue(), no_ack=self._seldom(), at=self._at()): 8,
            lambda: Ack(self._delivery(), self._seldom(), at=self._at()): 10,
            lambda: Nack(self._delivery(), self._seldom(), self._often(), at=self._at()): 8,
            lambda: Reject(self._delivery(), self._often(), at=self._at()): 5,
            lambda: Recover(at=self._at()): 2,
            lambda: Qos(self._one((0, 1, 1, 2, 3)), self._random.random() < 0.4, at=self._at()): 5,
            self._declare: 3,
            lambda: DeleteQueue(self._queue(), self._often(), self._often(), at=self._at()): 2,
            lambda: PurgeQueue(self._queue(), at=self._at()): 2,
            lambda: self._bind(self._exchange()): 4,
            lambda: UnbindQueue(self._queue(), self._exchange(), self._one(PATTERNS), at=self._at()): 2,
            lambda: BindExchange(self._exchange(), self._exchange(), self._one(PATTERNS), at=self._at()): 2,
            lambda: UnbindExchange(self._exchange(), self._exchange(), self._one(PATTERNS), at=self._at()): 1,
            lambda: DeleteExchange(self._exchange(), self._often(), at=self._at()): 1,
            self._select: 3,
            self._end_transaction: 4,
            lambda: Flow(at=self._at()): 1,
            lambda: CloseChannel(at=self._at()): 2,
            lambda: CloseConnection(at=self._one((At(1, 0), At(2, 0)))): 1,
            lambda: Ack(self._random.randint(0, 5), self._often(), at=self._at()): 1,
            lambda: self._wait(): 1,
        }

    def _publish(self) -> Operation:
        exchange, key = "", self._one((*self._kinds, *self._kinds, "q", "dead"))
        if self._random.random() < 0.4:
            exchange, key = self._one((self._exchange(), "amq.fanout")), self._one(KEYS)
        properties: dict[str, Any] = {}
        if self._seldom():
            properties["expiration"] = self._one(("0", "0", "60000", "60000", "-1"))
        if self._seldom() or exchange == "headers":
            properties["headers"] = self._one(HEADERS)
        # RabbitMQ does not look at once whether what a priority brought to the head has expired: it may deliver it.
        if self._often() and "expiration" not in properties:
            properties["priority"] = self._random.randint(0, 4)
        if self._seldom():
            properties["delivery_mode"] = self._one((1, 2))
        return Publish(exchange, key, self._one(BODIES), self._seldom(), properties=properties, at=self._at())

    def _publish_several(self) -> Operation:
        """Publish much at once, to one queue: between queues there would be no order."""
        at, queue, count = self._at(), self._queue(), self._random.randint(2, 5)
        return Together(tuple(Publish("", queue, str(number), at=at) for number in range(count)))

    def _consume(self) -> Operation:
        queue = self._queue()
        arguments = {"x-priority": self._one((-1, 1, 2))} if self._seldom() else {}
        no_ack, exclusive = self._seldom(), self._seldom()
        return Consume(queue, self._tag(queue), no_ack=no_ack, exclusive=exclusive, arguments=arguments, at=self._at())

    def _declare(self) -> Operation:
        """Declare a queue as it is, or otherwise, or ask for it."""
        queue = self._queue()
        options = self._kinds.get(queue, {}) if self._often() else self._one(KINDS_OF_QUEUE)
        self._kinds.setdefault(queue, options)
        return DeclareQueue(queue, passive=self._often(), at=self._at(), **options)

    def _bind(self, exchange: str) -> Operation:
        if exchange == "headers" or self._seldom():
            return BindQueue(self._queue(), exchange, "", {"x-match": "any", "n": 1}, at=self._at())
        return BindQueue(self._queue(), self._one((exchange, exchange, "amq.fanout")), self._one(PATTERNS))

    def _select(self) -> Operation:
        at = self._at()
        mode = self._modes.setdefault(at, self._one(("confirm", "tx")))
        return ConfirmSelect(at=at) if mode == "confirm" else TxSelect(at=at)

    def _end_transaction(self) -> Operation:
        transactional = [at for at, mode in self._modes.items() if mode == "tx"]
        if not transactional and not self._seldom():
            return self._select()
        return self._one((TxCommit, TxCommit, TxRollback))(at=self._one(transactional or CHANNELS))

    def _wait(self) -> Operation:
        """Let short lives end, where there are any: waiting for nothing takes as long."""
        if any(kind.get("arguments", {}).get("x-message-ttl") == SHORT_LIFE for kind in self._kinds.values()):
            return Wait(LONG_WAIT)
        return self._publish()

    def _tag(self, queue: str) -> str:
        return f"{queue}{self._random.randint(1, 3)}"

    def _delivery(self) -> int:
        return self._one((-1, -1, -1, -2, -3))

    def _queue(self) -> str:
        return self._one((*self._kinds, "q", *QUEUES[: self._seldom()]))

    def _exchange(self) -> str:
        return self._one(EXCHANGES if self._seldom() or not self._exchanges else self._exchanges)

    def _at(self) -> At:
        return self._one((A1, A1, A1, A2, A2, B1))

    def _one(self, values: Sequence[T]) -> T:
        return self._random.choice(values)

    def _seldom(self) -> bool:
        return self._random.random() < 0.1

    def _often(self) -> bool:
        return self._random.random() < 0.5


def compose(random: Random) -> tuple[Operation, ...]:
    """Return queues, exchanges and bindings, and what is done to them."""
    return Composer(random).compose()


sequences: st.SearchStrategy[tuple[Operation, ...]] = st.randoms(use_true_random=False).map(compose)
"""For hypothesis, which chooses each random number itself: such sequences shrink."""
