"""Exchanges: which destinations a routing key or headers lead to, by type of exchange.

AMQP 0-9-1, section 3.1.3; headers matching and exchange-to-exchange bindings as in RabbitMQ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from .errors import precondition_failed
from .message import Message
from .tables import Table, comparable

if TYPE_CHECKING:
    from .queue import Queue

Destination: TypeAlias = "Queue | Exchange"


class Binding:
    """One way from an exchange to a queue or another exchange."""

    __slots__ = ("arguments", "destination", "key", "weight")

    def __init__(self, destination: Destination, key: str, arguments: Table) -> None:
        self.destination = destination
        self.key = key
        self.arguments = arguments
        self.weight = key.count(".") + arguments.weight
        """For how many simple bindings it counts, by the memory that it takes."""

    def identity(self) -> Hashable:
        """What no two bindings of one exchange have in common."""
        return self.destination, self.key, self.arguments.key()


class Matcher(Protocol):
    """The bindings of an exchange, arranged for looking up."""

    reads_headers: bool
    """Whether a match depends on more than the routing key."""

    def add(self, binding: Binding) -> None:
        """Take a binding up; precondition_failed if it makes no sense."""

    def remove(self, binding: Binding) -> None:
        """Forget a binding."""

    def match(self, key: str, message: Message | None) -> Iterable[Destination]:
        """Where a message goes; a destination may come several times. `message` is needed for headers only."""


def _count_down(counts: Counter[Destination], destination: Destination) -> None:
    counts[destination] -= 1
    if not counts[destination]:
        del counts[destination]


class Direct:
    """The routing key is that of the binding."""

    reads_headers = False

    def __init__(self) -> None:
        self._keys: dict[str, Counter[Destination]] = {}

    def add(self, binding: Binding) -> None:
        """Take a binding up."""
        self._keys.setdefault(binding.key, Counter())[binding.destination] += 1

    def remove(self, binding: Binding) -> None:
        """Forget a binding."""
        bound = self._keys[binding.key]
        _count_down(bound, binding.destination)
        if not bound:
            del self._keys[binding.key]

    def match(self, key: str, message: Message | None) -> Iterable[Destination]:
        """Where the key leads."""
        return self._keys.get(key, ())


class Fanout:
    """Every binding matches."""

    reads_headers = False

    def __init__(self) -> None:
        self._bound: Counter[Destination] = Counter()

    def add(self, binding: Binding) -> None:
        """Take a binding up."""
        self._bound[binding.destination] += 1

    def remove(self, binding: Binding) -> None:
        """Forget a binding."""
        _count_down(self._bound, binding.destination)

    def match(self, key: str, message: Message | None) -> Iterable[Destination]:
        """All destinations."""
        return self._bound


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


class _Word:
    """A place in the tree of topic patterns."""

    __slots__ = ("bound", "next", "takes_all")

    def __init__(self, word: str) -> None:
        self.takes_all = word == "#"
        self.next: dict[str, _Word] = {}
        self.bound: Counter[Destination] = Counter()


class Topic:
    """Words between dots; in a binding, ``*`` stands for one word and ``#`` for any number."""

    reads_headers = False

    def __init__(self) -> None:
        self._root = _Word("")

    def add(self, binding: Binding) -> None:
        """Take a binding up."""
        place = self._root
        for word in _words(binding.key):
            place = place.next.setdefault(word, _Word(word))
        place.bound[binding.destination] += 1

    def remove(self, binding: Binding) -> None:
        """Forget a binding, and the branches that it alone needed."""
        path = [self._root]
        words = _words(binding.key)
        for word in words:
            path.append(path[-1].next[word])
        _count_down(path[-1].bound, binding.destination)
        for parent, word in zip(reversed(path[:-1]), reversed(words), strict=True):
            if parent.next[word].bound or parent.next[word].next:
                break
            del parent.next[word]

    def match(self, key: str, message: Message | None) -> Iterable[Destination]:
        """The destinations of all patterns that fit."""
        words = _words(key)
        found: dict[Destination, None] = {}
        seen: set[tuple[int, int]] = set()
        pending = [(self._root, 0)]
        while pending:
            place, at = pending.pop()
            if (id(place), at) in seen:  # many # in one pattern lead to the same place on many ways
                continue
            seen.add((id(place), at))
            if at == len(words):
                found.update(dict.fromkeys(place.bound))
            else:
                pending += ((place.next[word], at + 1) for word in (words[at], "*") if word in place.next)
                if place.takes_all:
                    pending.append((place, at + 1))
            if "#" in place.next:
                pending.append((place.next["#"], at))
        return found


_MATCHES = ("all", "any", "all-with-x", "any-with-x")


class Headers:
    """The headers are those of the binding: all of them or any, by its argument x-match."""

    reads_headers = True

    def __init__(self) -> None:
        self._bindings: dict[Hashable, Binding] = {}

    def add(self, binding: Binding) -> None:
        """Take a binding up; precondition_failed for an x-match that there is not."""
        arguments = binding.arguments
        kind, shown = arguments.kind("x-match"), arguments.show("x-match")
        if kind == "longstr" and arguments.text("x-match") not in _MATCHES:
            raise precondition_failed(
                f'Invalid x-match field value <<"{shown}">>; expected all, any, all-with-x, or any-with-x'
            )
        if kind not in ("longstr", "undefined"):
            raise precondition_failed(f"Invalid x-match field type {kind} (value {shown}); expected longstr")
        self._bindings[binding.identity()] = binding

    def remove(self, binding: Binding) -> None:
        """Forget a binding."""
        del self._bindings[binding.identity()]

    def match(self, key: str, message: Message | None) -> Iterable[Destination]:
        """The destinations whose bindings the message's headers fit."""
        assert message is not None
        headers = {name: comparable(value) for name, value in message.headers.fields.items()}
        return [bound.destination for bound in self._bindings.values() if _fits(bound.arguments, headers)]


def _fits(pattern: Table, headers: dict[str, Hashable]) -> bool:
    how = pattern.text("x-match") or "all"
    wanted = {
        name: value
        for name, value in pattern.fields.items()
        if name != "x-match" and (how.endswith("-with-x") or not name.startswith("x-"))
    }
    found = (
        name in headers and (value == b"V" or comparable(value) == headers[name]) for name, value in wanted.items()
    )
    return all(found) if how.startswith("all") else any(found)


TYPES: dict[str, type[Direct | Fanout | Topic | Headers]] = {
    "direct": Direct,
    "fanout": Fanout,
    "topic": Topic,
    "headers": Headers,
}


class Exchange:
    """A named exchange with its bindings."""

    __slots__ = (
        "alternate",
        "arguments",
        "auto_delete",
        "bindings",
        "bound",
        "durable",
        "internal",
        "matcher",
        "name",
        "type",
        "weight",
    )

    def __init__(
        self,
        name: str,
        type_name: str,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Table | None = None,
    ) -> None:
        self.name = name
        self.type = type_name
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments or Table()
        self.alternate = self.arguments.text("alternate-exchange")
        """The exchange that gets what no binding matches."""
        self.weight = self.arguments.weight
        """For how many exchanges without arguments it counts."""
        self.matcher: Matcher = TYPES[type_name]()
        self.bindings: dict[Destination, dict[Hashable, Binding]] = {}
        self.bound: dict[Exchange, None] = {}
        """Exchanges that have bindings to this one."""

    def has(self, binding: Binding) -> bool:
        """Whether there is such a binding."""
        return binding.identity() in self.bindings.get(binding.destination, {})

    def bind(self, binding: Binding) -> bool:
        """Add a binding; False if it was there."""
        if self.has(binding):
            return False
        self.matcher.add(binding)
        self.bindings.setdefault(binding.destination, {})[binding.identity()] = binding
        binding.destination.bound[self] = None
        return True

    def unbind(self, binding: Binding) -> bool:
        """Remove a binding; False if it was not there."""
        if not self.has(binding):
            return False
        bindings = self.bindings[binding.destination]
        self.matcher.remove(bindings.pop(binding.identity()))
        if not bindings:
            self._let_go(binding.destination)
        return True

    def unbind_all(self, destination: Destination) -> int:
        """Remove all bindings to a destination; return what they weighed."""
        bindings = self.bindings[destination].values()
        for binding in bindings:
            self.matcher.remove(binding)
        self._let_go(destination)
        return sum(binding.weight for binding in bindings)

    def _let_go(self, destination: Destination) -> None:
        del self.bindings[destination]
        del destination.bound[self]

    def __repr__(self) -> str:
        return f"<{self.type} exchange {self.name!r}>"
