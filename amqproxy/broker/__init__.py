"""The embedded broker: AMQP 0-9-1 in pure Python, in memory, for tests and demonstrations.

It is a server, not a mock: any AMQP 0-9-1 client can connect, and sees what RabbitMQ would show it. Production belongs
on RabbitMQ.
"""

from .broker import Broker
from .limits import Limits
from .server import Server

__all__ = ["Broker", "Limits", "Server"]
