"""Call objects in other processes over RabbitMQ as if they were local."""

from .client import Client, connect
from .contract import message, method, serve
from .handler import current
from .proxy import options

__all__ = ["Client", "connect", "current", "message", "method", "options", "serve"]
