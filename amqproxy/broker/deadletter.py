"""Dead letters: the headers that tell why, where and how often a message died.

https://www.rabbitmq.com/docs/dlx#effects and, for cycles, https://www.rabbitmq.com/docs/dlx#cycles.
"""

from __future__ import annotations

from ..properties import EXPIRATION, HEADERS
from .message import Message, address, headers_of, split
from .tables import Table, array, items, long_integer, long_string, nested, timestamp


def buried(message: Message, queue: str, reason: str, exchange: str, key: str | None, now: int) -> Message:
    """The message as it goes to the exchange for dead letters; `now` in seconds since 1970."""
    parts = split(message.header)
    headers = headers_of(parts)
    died_before = "x-death" in headers
    deaths = _deaths(headers)
    earlier = next((one for one in deaths if (one.text("queue"), one.text("reason")) == (queue, reason)), None)
    if earlier is not None:
        deaths.remove(earlier)
        earlier.fields["count"] = long_integer(min(earlier["count"] + 1, 2**63 - 1))
        deaths.insert(0, earlier)
    else:
        deaths.insert(0, _death(message, queue, reason, now, parts.get(EXPIRATION)))
    headers.fields["x-death"] = array([nested(one) for one in deaths])
    for which in ("x-first-death", "x-last-death"):
        if which == "x-last-death" or not died_before:
            headers.fields[f"{which}-reason"] = long_string(reason)
            headers.fields[f"{which}-queue"] = long_string(queue)
            headers.fields[f"{which}-exchange"] = long_string(message.exchange)
    if key is not None:  # the other keys of the message do not count any more
        headers.fields.pop("CC", None)
    parts.pop(EXPIRATION, None)
    parts[HEADERS] = headers.encode()
    first = key if key is not None else message.routing_key
    dead = Message(address(exchange, first), message.header, message.body)
    dead.keys = message.keys if key is None else None
    dead.priority = message.priority
    dead.changed(parts)
    return dead


def _death(message: Message, queue: str, reason: str, now: int, expiration: bytes | None) -> Table:
    keys = [message.routing_key, *message.headers.texts("CC")]
    death = Table(
        {
            "count": long_integer(1),
            "reason": long_string(reason),
            "queue": long_string(queue),
            "time": timestamp(now),
            "exchange": long_string(message.exchange),
            "routing-keys": array([long_string(key) for key in keys]),
        }
    )
    if expiration is not None:
        death.fields["original-expiration"] = long_string(expiration[1:].decode(errors="surrogateescape"))
    return death


def is_cycle(message: Message, queue: str) -> bool:
    """Whether the dead letter would come to `queue` again with nobody having refused it on the way."""
    for death in _deaths(message.headers):
        if death.text("reason") == "rejected":
            return False
        if death.text("queue") == queue:
            return True
    return False


def times_died(message: Message) -> int:
    """In how many queues a message has died, or of how many reasons."""
    return len(_deaths(message.headers)) if b"x-death" in message.header else 0


def _deaths(headers: Table) -> list[Table]:
    """The header x-death, as far as it is one."""
    field = headers.fields.get("x-death", b"")
    if field[:1] != b"A":
        return []
    tables = [Table.parse(item[5:]) for item in items(field) if item[:1] == b"F"]
    return [death for death in tables if death.kind("count") == "long"]
