"""The optional arguments (x-...) of queues, exchanges and consumers: checked, compared and read.

Texts and rules are RabbitMQ's (https://www.rabbitmq.com/docs/queues#optional-arguments).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from .errors import ProtocolError, precondition_failed
from .message import LONGEST_TTL
from .tables import INTEGERS, Table, comparable

QUORUM, CLASSIC = "quorum", "classic"
DELIVERY_LIMIT = 20
"""How often a message may come back to a quorum queue that was declared without a limit, since RabbitMQ 4."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the arguments of a queue mean."""

    type: str = CLASSIC
    message_ttl: int | None = None
    """Milliseconds."""
    expires: int | None = None
    """Milliseconds without use after which the queue goes."""
    max_length: int | None = None
    max_bytes: int | None = None
    overflow: str = "drop-head"
    dead_letter_exchange: str | None = None
    dead_letter_key: str | None = None
    at_least_once: bool = False
    """Whether dead letters stay until they have got where they go."""
    max_priority: int = 0
    single_active_consumer: bool = False
    delivery_limit: int | None = None

    @classmethod
    def of(cls, arguments: Table) -> Settings:
        """The settings in arguments that were checked."""

        def number(name: str) -> int | None:
            return arguments[name] if arguments.kind(name) in INTEGERS else None

        type, overflow = arguments.text("x-queue-type") or CLASSIC, arguments.text("x-overflow") or "drop-head"
        strategy = arguments.text("x-dead-letter-strategy")
        return cls(
            type=type,
            message_ttl=number("x-message-ttl"),
            expires=number("x-expires"),
            max_length=number("x-max-length"),
            max_bytes=number("x-max-length-bytes"),
            overflow=overflow,
            dead_letter_exchange=arguments.text("x-dead-letter-exchange"),
            dead_letter_key=arguments.text("x-dead-letter-routing-key"),
            # As in RabbitMQ, which warns of other overflows in its log, and dead-letters at most once then.
            at_least_once=strategy == "at-least-once" and type == QUORUM and overflow == "reject-publish",
            max_priority=number("x-max-priority") or 0,
            single_active_consumer=bool(arguments.get("x-single-active-consumer")),
            delivery_limit=number("x-delivery-limit") if "x-delivery-limit" in arguments else DELIVERY_LIMIT,
        )


Check = Callable[[Table, str], "str | None"]


def _integer(table: Table, name: str) -> str | None:
    kind = table.kind(name)
    return None if kind in INTEGERS else f'"expected integer, got {kind}"'


def _natural(table: Table, name: str) -> str | None:
    wrong = _integer(table, name)
    if wrong is None and table[name] < 0:
        return f"{{value_negative,{table[name]}}}"
    return wrong


def _time(table: Table, name: str) -> str | None:
    wrong = _natural(table, name)
    if wrong is None and table[name] > LONGEST_TTL:
        return f"{{value_too_large,{table[name]}}}"
    return wrong


def _expires(table: Table, name: str) -> str | None:
    if table.kind(name) in INTEGERS and table[name] == 0:
        return "{value_zero,0}"
    return _time(table, name)


def _priority(table: Table, name: str) -> str | None:
    wrong = _natural(table, name)
    if wrong is None and table[name] > 255:
        return f"{{max_value_exceeded,{table[name]}}}"
    return wrong


def _version(table: Table, name: str) -> str | None:
    wrong = _natural(table, name)
    if wrong is None and table[name] not in (1, 2):
        return f"\"unsupported queue version '{table[name]}'\""
    return wrong


def _text(table: Table, name: str) -> str | None:
    kind = table.kind(name)
    return None if kind == "longstr" else f"{{unacceptable_type,{kind}}}"


def _dead_letter_key(table: Table, name: str) -> str | None:
    wrong = _text(table, name)
    if wrong is None and "x-dead-letter-exchange" not in table:
        return "routing_key_but_no_dlx_defined"
    if wrong is None and len((table.text(name) or "").encode(errors="surrogateescape")) > 255:
        return "routing_key_too_long"
    return wrong


def _flag(table: Table, name: str) -> str | None:
    kind = table.kind(name)
    return None if kind == "bool" else f"{{unacceptable_type,{kind}}}"


def _one_of(allowed: Iterable[str], otherwise: str) -> Check:
    def check(table: Table, name: str) -> str | None:
        wrong = _text(table, name)
        if wrong is None and (table.text(name) or "") not in allowed:
            return otherwise.format(table.text(name))
        return wrong

    return check


_TYPE = _one_of((CLASSIC, QUORUM), "\"unsupported queue type '{}'\"")
_ANY: dict[str, Check] = {
    "x-expires": _expires,
    "x-message-ttl": _time,
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _dead_letter_key,
    "x-max-length": _natural,
    "x-max-length-bytes": _natural,
    "x-overflow": _one_of(("drop-head", "reject-publish", "reject-publish-dlx"), "invalid_overflow"),
    "x-single-active-consumer": _flag,
    "x-queue-type": _TYPE,
    "x-queue-leader-locator": _one_of(
        ("client-local", "balanced", "random", "least-leaders"), "invalid_queue_locator_arg"
    ),
}
_CLASSIC: dict[str, Check] = {
    "x-max-priority": _priority,
    "x-queue-mode": _one_of(("default", "lazy"), "\"unsupported queue mode '{}'\""),
    "x-queue-version": _version,
    "x-queue-master-locator": _text,
}
_QUORUM: dict[str, Check] = {
    "x-dead-letter-strategy": _one_of(("at-most-once", "at-least-once"), "invalid_dlx_strategy"),
    "x-max-in-memory-length": _natural,
    "x-max-in-memory-bytes": _natural,
    "x-quorum-initial-group-size": _natural,
    "x-quorum-target-group-size": _natural,
    "x-initial-cluster-size": _natural,
    "x-delivery-limit": _integer,
}
_STREAM = ("x-max-age", "x-stream-max-segment-size-bytes", "x-stream-filter-size-bytes")
_FIRST = (*tuple(_ANY)[:6], "x-max-priority", "x-overflow", "x-queue-mode", "x-queue-version")
"""RabbitMQ's order, in which the first argument that is wrong is told; the rest follows."""


def _in_order(*checks: dict[str, Check]) -> dict[str, Check]:
    known = {name: check for group in checks for name, check in group.items()}
    return {name: known[name] for name in (*_FIRST, *known) if name in known}


_KNOWN = {CLASSIC: _in_order(_ANY, _CLASSIC), QUORUM: _in_order(_ANY, _QUORUM)}
_OF_OTHER_TYPES = {CLASSIC: (*_QUORUM, *_STREAM), QUORUM: (*_CLASSIC, *_STREAM)}


def check_queue(what: str, arguments: Table) -> None:
    """Refuse arguments that no queue can have; `what` names it."""
    _check(what, arguments, {"x-queue-type": _TYPE})
    queue_type = arguments.text("x-queue-type") or CLASSIC
    _check(what, arguments, _KNOWN[queue_type])
    for name in arguments:
        if name in _OF_OTHER_TYPES[queue_type]:
            raise precondition_failed(f"invalid arg '{name}' for {what} of queue type rabbit_{queue_type}_queue")


def check_consumer(what: str, arguments: Table) -> None:
    """Refuse arguments that no consumer can have; `what` names its queue."""
    _check(what, arguments, {"x-priority": _integer, "x-cancel-on-ha-failover": _flag})


def _check(what: str, arguments: Table, checks: dict[str, Check]) -> None:
    for name, check in checks.items():
        if name in arguments and (wrong := check(arguments, name)):
            raise precondition_failed(f"invalid arg '{name}' for {what}: {wrong}")


def check_equivalent(what: str, current: Table, received: Table, names: Iterable[str] | None = None) -> None:
    """Refuse to declare again with other arguments; `what` names the queue or exchange."""
    if names is None:
        names = _KNOWN[current.text("x-queue-type") or CLASSIC]
    for name in names:
        if name == "x-queue-type" and {current.text(name), received.text(name)} <= {None, CLASSIC}:
            continue
        both = name in current and name in received
        if not both and name not in current and name not in received:
            continue
        if not both or _value(current, name) != _value(received, name):
            shown = _plain if both else _shown
            raise inequivalent(name, what, shown(received, name), shown(current, name))


def inequivalent(name: str, what: str, received: str, current: str) -> ProtocolError:
    """The error for something that is there, but is not what was declared now."""
    return precondition_failed(f"inequivalent arg '{name}' for {what}: received {received} but current is {current}")


def check_same(name: str, what: str, received: bool | str, current: bool | str) -> None:
    """Refuse to declare again with another property."""
    if received != current:
        raise inequivalent(name, what, f"'{str(received).lower()}'", f"'{str(current).lower()}'")


def _value(table: Table, name: str) -> tuple[bool, Hashable]:
    """What is equal for arguments that RabbitMQ takes for equal: integers of any size, floats of any."""
    return table.kind(name) in ("float", "double"), comparable(table.fields[name])


def _plain(table: Table, name: str) -> str:
    return f"'{table.show(name)}'"


def _shown(table: Table, name: str) -> str:
    return f"the value {_plain(table, name)} of type '{table.kind(name)}'" if name in table else "none"
