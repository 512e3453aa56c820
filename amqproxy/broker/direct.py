"""Direct reply-to: answers that go to the asking channel without a queue.

https://www.rabbitmq.com/docs/direct-reply-to
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .message import Entry, Message
from .vhost import generated_name

if TYPE_CHECKING:
    from .channel import Channel

PSEUDO_QUEUE = "amq.rabbitmq.reply-to"


class DirectReply:
    """The consumer of replies of one channel."""

    __slots__ = ("channel", "name", "prefix", "tag")

    def __init__(self, channel: Channel, tag: str) -> None:
        self.channel = channel
        self.tag = tag
        self.name = f"{PSEUDO_QUEUE}.{generated_name('g1h2AA')}"
        """The routing key of replies to it, which nobody can guess."""
        raw = tag.encode(errors="surrogateescape")
        self.prefix = b"\x00\x3c\x00\x3c" + bytes((len(raw),)) + raw

    def publish(self, message: Message) -> None:
        """Deliver a reply, if it is still wanted."""
        if self.channel.reply is self:
            self.channel.deliver(self, Entry(message, 0, None))
