"""Where a channel's messages go: looked up once for each exchange and routing key, and kept until something changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import frame_error, not_implemented, refused
from .exchange import Exchange
from .queue import Queue

if TYPE_CHECKING:
    from .channel import Channel
    from .direct import DirectReply

KEPT = 1024
"""How many routes a channel keeps."""


class Route:
    """An exchange and a routing key as a publisher named them, and where they lead."""

    __slots__ = ("address", "exchange", "key", "mandatory", "reply", "targets")

    def __init__(self, address: bytes, exchange: Exchange, key: str, *, mandatory: bool) -> None:
        self.address = address
        self.exchange = exchange
        self.key = key
        self.mandatory = mandatory
        self.targets: tuple[Queue, ...] | None = None
        """None where that depends on each message."""
        self.reply: DirectReply | None = None
        """Who waits for direct replies under that key; to the publisher it is no route."""


class Routes:
    """The routes of one channel."""

    __slots__ = ("_channel", "_known", "_topology")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._known: dict[bytes, Route] = {}
        self._topology = -1
        """For which state of the broker they hold."""

    def find(self, arguments: bytes) -> Route:
        """The route for the arguments of a basic.publish, ticket left out; raises what publishing there would."""
        topology = self._channel.vhost.counter.topology
        if self._topology != topology or len(self._known) > KEPT:
            self._known.clear()
            self._topology = topology
        route = self._known.get(arguments)
        if route is None:
            route = self._known[arguments] = self._look_up(arguments)
        return route

    def _look_up(self, arguments: bytes) -> Route:
        channel = self._channel
        vhost, user = channel.vhost, channel.session.user
        end = 1 + (arguments[0] if arguments else 0)
        if end >= len(arguments) or end + arguments[end] + 2 != len(arguments):
            raise frame_error(f"cannot decode <<0,0,{','.join(map(str, arguments))}>>")
        if arguments[-1] & 2:
            raise not_implemented("immediate=true")
        name = arguments[1:end].decode(errors="surrogateescape")
        key = arguments[end + 1 : -1].decode(errors="surrogateescape")
        user.check("write", vhost.name, "exchange", name)
        exchange = vhost.exchange(name)
        if exchange.internal:
            raise refused(f"cannot publish to internal {vhost.exchange_text(name)}")
        if exchange.type == "topic":
            user.check_topic("write", vhost.name, name, key)
        route = Route(arguments[:-1], exchange, key, mandatory=bool(arguments[-1] & 1))
        queues, by_key = vhost.route(exchange, (key,), None)
        if not name:
            route.reply = channel.session.broker.replies.get(key)
        if by_key:
            route.targets = tuple(queues)
        return route
