"""Direct reply-to: answers that go to the asking channel without a queue.

https://www.rabbitmq.com/docs/direct-reply-to
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .message import Entry, Message
from .vhost import generated_name

if TYPE_CHECKING:
    from .channel import Channel

PSEUDO_QUEUE = "amq.rabbitmq.reply-to"


class DirectReply:
    """The consumer of replies of one channel."""

    __slots__ = ("_waiting", "channel", "name", "prefix", "tag")

    def __init__(self, channel: Channel, tag: str) -> None:
        self.channel = channel
        self.tag = tag
        self._waiting: deque[Message] = deque()
        self.name = f"{PSEUDO_QUEUE}.{generated_name('g1h2AA')}"
        """The routing key of replies to it, which nobody can guess."""
        raw = tag.encode(errors="surrogateescape")
        self.prefix = b"\x00\x3c\x00\x3c" + bytes((len(raw),)) + raw

    def publish(self, message: Message) -> None:
        """Deliver a reply, or keep it while the socket is full; drop it if it is not wanted any more."""
        if self.channel.reply is not self:
            return
        if self.channel.session.writable and not self._waiting:
            self.channel.deliver(self, Entry(message, 0, None))
        else:
            self.channel.vhost.memory.take(message.share)
            self._waiting.append(message)

    def resume(self) -> None:
        """Deliver what was kept, as far as the socket takes it."""
        while self._waiting and self.channel.session.writable:
            message = self._waiting.popleft()
            self.channel.vhost.memory.free(message.share)
            self.channel.deliver(self, Entry(message, 0, None))

    def close(self) -> None:
        """Forget what was kept."""
        while self._waiting:
            self.channel.vhost.memory.free(self._waiting.popleft().share)
