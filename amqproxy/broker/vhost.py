"""A virtual host: its exchanges, queues and bindings, and the way of a message through them."""

from __future__ import annotations

import logging
import secrets
import time
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Iterable

from ..shown import shown
from . import arguments as checks
from .arguments import CLASSIC, QUORUM, Settings
from .deadletter import buried, is_cycle, times_died
from .errors import ProtocolError, locked, not_found, precondition_failed, refused
from .exchange import Binding, Destination, Exchange
from .limits import Counter, Memory
from .message import Message
from .policies import Policies
from .queue import Connection, Queue
from .tables import Table, long_string
from .timers import Timers

log = logging.getLogger("amqproxy.broker")

PREDECLARED = (
    ("", "direct"),
    ("amq.direct", "direct"),
    ("amq.fanout", "fanout"),
    ("amq.headers", "headers"),
    ("amq.match", "headers"),
    ("amq.topic", "topic"),
    ("amq.rabbitmq.trace", "topic"),
)
BURIED_AT_ONCE = 500
"""Dead letters that are sent on before others get their turn; each 256 bytes of a header count for one more."""
MOST_DEATHS = 64
"""A message that died in so many queues is dropped, where RabbitMQ goes on: what it says of each is read at each."""
UNBURIED_SECONDS = 1.0
"""Dead letters that must get where they go, and could not, are sent again this often."""
WARNINGS = 100
"""Cycles of dead letters that are told of."""


def generated_name(prefix: str) -> str:
    """A name that nobody can guess, in RabbitMQ's form."""
    return f"{prefix}-{urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip('=')}"


class VirtualHost:
    """Names of its own for exchanges and queues."""

    def __init__(
        self,
        name: str,
        *,
        memory: Memory,
        timers: Timers,
        clock: Callable[[], float],
        counter: Counter,
    ) -> None:
        self.name = name
        self.memory = memory
        self.timers = timers
        self.clock = clock
        self.counter = counter
        self.queues: dict[str, Queue] = {}
        self.exchanges: dict[str, Exchange] = {}
        self.default_queue_type = CLASSIC
        self.policies = Policies()
        """What is set for all queues and exchanges that are declared from now on."""
        self._burying = False
        self._unburied: list[tuple[Queue, Message, str]] = []
        self._cycles: set[tuple[str, str]] = set()
        self.dead: deque[tuple[Queue, Message, str]] = deque()
        """Messages that have left their queues and are to go to the exchanges for dead letters: see `bury`."""
        for exchange, kind in PREDECLARED:
            internal = exchange == "amq.rabbitmq.trace"
            self.exchanges[exchange] = Exchange(exchange, kind, durable=True, internal=internal)

    # Exchanges.

    def exchange(self, name: str) -> Exchange:
        """The exchange of that name; not_found without one."""
        found = self.exchanges.get(name)
        if found is None:
            raise not_found(f"no {self.exchange_text(name)}")
        return found

    def exchange_text(self, name: str) -> str:
        """How an error names an exchange."""
        return f"exchange '{name}' in vhost '{self.name}'"

    def declare_exchange(
        self, name: str, kind: str, *, durable: bool, auto_delete: bool, internal: bool, arguments: Table
    ) -> None:
        """Make an exchange, or see that the one there is the same."""
        found = self.exchanges.get(name)
        if found is None:
            if name.startswith("amq."):
                raise refused(f"exchange name '{name}' contains reserved prefix 'amq.*'")
            self._check_text(arguments, "alternate-exchange", self.exchange_text(name))
            exchange = Exchange(
                name, kind, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments
            )
            self.counter.check("exchanges", exchange.weight, f"declare {self.exchange_text(name)}")
            self.counter.add("exchanges", exchange.weight)
            self.exchanges[name] = exchange
            exchange.alternate = self.policies.govern("exchange", name, arguments).text("alternate-exchange")
            self.counter.topology += 1
            return
        what = self.exchange_text(name)
        checks.check_same("type", what, kind, found.type)
        checks.check_same("durable", what, durable, found.durable)
        checks.check_same("auto_delete", what, auto_delete, found.auto_delete)
        checks.check_same("internal", what, internal, found.internal)
        checks.check_equivalent(what, found.arguments, arguments, ("alternate-exchange",))

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Remove an exchange with its bindings; one that is not there is gone already."""
        found = self.exchanges.get(name)
        if found is None:
            return
        if if_unused and found.bindings:
            raise precondition_failed(f"{self.exchange_text(name)} in use")
        self._remove_exchanges([found])

    # Queues.

    def queue(self, name: str, connection: object | None = None) -> Queue:
        """The queue of that name, if `connection` may use it; not_found or locked otherwise."""
        found = self.queues.get(name)
        if found is None:
            raise not_found(f"no {self.queue_text(name)}")
        self._check_owner(found, connection)
        return found

    def queue_text(self, name: str) -> str:
        """How an error names a queue."""
        return f"queue '{name}' in vhost '{self.name}'"

    def _check_owner(self, queue: Queue, connection: object | None) -> None:
        if queue.exclusive_to is not None and queue.exclusive_to is not connection:
            raise self._locked(queue.name)

    def _locked(self, name: str) -> ProtocolError:
        return locked(
            f"cannot obtain exclusive access to locked {self.queue_text(name)}. It could be originally declared on "
            "another connection or the exclusive property value does not match that of the original declaration."
        )

    def declare_queue(
        self,
        name: str,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        exclusive_to: Connection | None = None,
        arguments: Table | None = None,
        permit: Callable[[str], None] = lambda name: None,
    ) -> Queue:
        """Make a queue, or see that the one there is the same; a name is made for one without.

        `permit` is asked about the name, whoever gave it.
        """
        arguments = self._with_default_type(arguments or Table(), durable, exclusive_to is not None, auto_delete)
        if not name:
            if arguments.text("x-queue-type") == QUORUM:
                raise precondition_failed("Cannot declare a server-named queue for type rabbit_quorum_queue")
            name = generated_name("amq.gen")
        elif name.startswith("amq."):
            raise refused(f"queue name '{name}' contains reserved prefix 'amq.*'")
        permit(name)
        found = self.queues.get(name)
        if found is None:
            return self._new_queue(name, durable, auto_delete, exclusive_to, arguments)
        if found.exclusive_to is not exclusive_to:
            raise self._locked(name)
        what = self.queue_text(name)
        checks.check_same("durable", what, durable and exclusive_to is None, found.durable)
        checks.check_same("auto_delete", what, auto_delete, found.auto_delete)
        checks.check_equivalent(what, found.arguments, arguments)
        found.touch()
        return found

    def _with_default_type(self, arguments: Table, durable: bool, exclusive: bool, auto_delete: bool) -> Table:
        fits = durable and not exclusive and not auto_delete
        if "x-queue-type" in arguments or self.default_queue_type == CLASSIC or not fits:
            return arguments
        return Table({**arguments.fields, "x-queue-type": long_string(self.default_queue_type)})

    def _new_queue(
        self, name: str, durable: bool, auto_delete: bool, exclusive_to: Connection | None, arguments: Table
    ) -> Queue:
        what = self.queue_text(name)
        self._check_text(arguments, "x-dead-letter-exchange", what)
        checks.check_queue(what, arguments)
        if arguments.text("x-queue-type") == QUORUM:
            for wrong, named in ((not durable, "non-durable"), (auto_delete, "auto-delete")):
                if wrong:
                    raise precondition_failed(f"invalid property '{named}' for {what}")
            if exclusive_to is not None:
                raise precondition_failed(f"invalid property 'exclusive-owner' for {what}")
        self.counter.check("queues", arguments.weight, f"declare {what}")
        queue = Queue(
            name,
            self,
            durable=durable and exclusive_to is None,
            auto_delete=auto_delete,
            exclusive_to=exclusive_to,
            arguments=arguments,
            settings=Settings.of(self.policies.govern("queue", name, arguments)),
        )
        self.queues[name] = queue
        if exclusive_to is not None:
            exclusive_to.exclusive[queue] = None
        self.counter.add("queues", arguments.weight)
        self.counter.topology += 1
        return queue

    def delete_queue(self, queue: Queue) -> int:
        """Remove a queue with its bindings and messages, tell its consumers, and say how many messages waited."""
        if queue.deleted:
            return 0
        count = len(queue.ready)
        queue.close()
        del self.queues[queue.name]
        self.counter.remove("queues", queue.arguments.weight)
        self.counter.topology += 1
        if queue.exclusive_to is not None:
            queue.exclusive_to.exclusive.pop(queue, None)
        self._remove_exchanges(self._unbind_all(queue))
        for consumer in sorted(queue.consumers.all, key=lambda one: one.tag):
            consumer.channel.cancelled(consumer)
        return count

    def _check_text(self, arguments: Table, name: str, what: str) -> None:
        kind = arguments.kind(name)
        if kind not in ("undefined", "longstr"):
            raise precondition_failed(f"invalid type '{kind}' for arg '{name}' in {what}")

    # Bindings.

    def destination(self, kind: str, name: str, connection: object | None) -> Destination:
        """What a binding leads to: a "queue" or an "exchange"."""
        return self.queue(name, connection) if kind == "queue" else self.exchange(name)

    def bind(self, source: str, kind: str, name: str, key: str, arguments: Table, connection: object | None) -> None:
        """Lead messages from an exchange to a queue or another exchange."""
        exchange = self.exchange(source)
        binding = Binding(self.destination(kind, name, connection), key, arguments)
        if exchange.has(binding):
            return
        self.counter.check("bindings", binding.weight, f"bind {kind} '{name}' to {self.exchange_text(source)}")
        exchange.bind(binding)
        self.counter.add("bindings", binding.weight)
        self.counter.topology += 1

    def unbind(self, source: str, kind: str, name: str, key: str, arguments: Table, connection: object | None) -> None:
        """Undo a binding; what is not there any more needs no undoing."""
        exchange = self.exchanges.get(source)
        destination = self.queues.get(name) if kind == "queue" else self.exchanges.get(name)
        if exchange is None or destination is None:
            return
        binding = Binding(destination, key, arguments)
        if not exchange.has(binding):
            return
        if isinstance(destination, Queue):
            self._check_owner(destination, connection)
        exchange.unbind(binding)
        self.counter.remove("bindings", binding.weight)
        self.counter.topology += 1
        self._remove_exchanges(_unused([exchange]))

    def _unbind_all(self, destination: Destination) -> list[Exchange]:
        """Remove all bindings to what is deleted; return the exchanges that are to go with their last binding."""
        sources = list(destination.bound)
        for exchange in sources:
            self.counter.remove("bindings", exchange.unbind_all(destination))
        return _unused(sources)

    def _remove_exchanges(self, exchanges: list[Exchange]) -> None:
        """Remove exchanges, and those that go with their last binding in turn."""
        while exchanges:
            exchange = exchanges.pop()
            del self.exchanges[exchange.name]  # once: without bindings, it is found no second time
            self.counter.remove("exchanges", exchange.weight)
            for destination in list(exchange.bindings):
                self.counter.remove("bindings", exchange.unbind_all(destination))
            exchanges += self._unbind_all(exchange)
            self.counter.topology += 1

    # The way of a message.

    def route(self, exchange: Exchange, keys: Iterable[str], message: Message | None) -> tuple[list[Queue], bool]:
        """The queues that a message goes to, and whether that depends on its keys alone.

        Without a message, what depends on headers finds nothing.
        """
        found: dict[Queue, None] = {}
        by_key = True
        keys = tuple(keys)
        if not exchange.name:  # only who names the default exchange itself reaches queues by their names
            return [self.queues[key] for key in dict.fromkeys(keys) if key in self.queues], True
        seen = {exchange}
        pending = [exchange]
        while pending:
            source = pending.pop()
            matched = self._matches(source, keys, message)
            by_key = by_key and not source.matcher.reads_headers
            if not matched and source.alternate is not None:
                alternate = self.exchanges.get(source.alternate)
                matched = () if alternate is None else (alternate,)
            for destination in matched:
                if isinstance(destination, Queue):
                    found[destination] = None
                elif destination not in seen:
                    seen.add(destination)
                    pending.append(destination)
        return list(found), by_key

    def _matches(self, source: Exchange, keys: tuple[str, ...], message: Message | None) -> Iterable[Destination]:
        if source.matcher.reads_headers and message is None:
            return ()
        found: list[Destination] = []
        for key in keys:
            found += source.matcher.match(key, message)
        return found

    # Dead letters.

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        """Keep a message for `bury`, if its queue wants it buried."""
        if queue.settings.dead_letter_exchange is not None:
            self.memory.take(message.share)
            self.dead.append((queue, message, reason))

    def bury(self) -> None:
        """Send dead letters where they go; done when what killed them is complete.

        Letters may cause letters, in some topologies without a visible end: others get their turn in between.
        """
        left = BURIED_AT_ONCE
        while self.dead and left > 0:
            letter = self.dead.popleft()
            left -= 1 + len(letter[1].header) // 256
            self._send_on(*letter)
        if self.dead and not self._burying:
            self._burying = True
            self.timers.at(self.clock(), self._go_on_burying)

    def _go_on_burying(self) -> None:
        self._burying = False
        self.bury()

    def _send_on(self, queue: Queue, message: Message, reason: str) -> None:
        self.memory.free(message.share)
        if self._sent(queue, message, reason) or not queue.settings.at_least_once or queue.deleted:
            return
        self.memory.take(message.share)
        if not self._unburied:
            self.timers.at(self.clock() + UNBURIED_SECONDS, self._bury_again)
        self._unburied.append((queue, message, reason))

    def _bury_again(self) -> None:
        self.dead += self._unburied
        self._unburied.clear()
        self.bury()

    def _sent(self, queue: Queue, message: Message, reason: str) -> bool:
        """Whether all queues have a dead letter that it goes to, and there are any."""
        settings = queue.settings
        assert settings.dead_letter_exchange is not None
        exchange = self.exchanges.get(settings.dead_letter_exchange)
        if exchange is None:
            return False
        if times_died(message) >= MOST_DEATHS:
            self._warn_of_chain(queue.name)
            return True
        letter = buried(message, queue.name, reason, exchange.name, settings.dead_letter_key, int(time.time()))
        targets, _ = self.route(exchange, letter.routing_keys, letter)
        taken = bool(targets)
        for target in targets:
            if reason != "rejected" and is_cycle(letter, target.name):
                self._warn_of_cycle(queue.name, target.name)
            elif not target.publish(letter):
                log.debug("%r refused a dead letter", target)
                taken = False
        return taken

    def _warn_of_chain(self, source: str) -> None:
        """Say once for each queue that what died so often is dropped."""
        if (source, "") not in self._cycles and len(self._cycles) < WARNINGS:
            self._cycles.add((source, ""))
            text = "dead letters of %s that died in %d queues are dropped; this is said once"
            log.warning(text, shown(self.queue_text(source)), MOST_DEATHS)

    def _warn_of_cycle(self, source: str, target: str) -> None:
        """Say once for each pair of queues that dead letters between them are dropped."""
        if (source, target) not in self._cycles and len(self._cycles) < WARNINGS:
            self._cycles.add((source, target))
            log.warning(
                "dead letters of %s that come to %s are dropped: they would go round for ever; this is said once",
                shown(self.queue_text(source)),
                shown(self.queue_text(target)),
            )


def _unused(exchanges: list[Exchange]) -> list[Exchange]:
    return [one for one in exchanges if one.auto_delete and not one.bindings]
