"""The same without await, for scripts, notebooks and threads: `with amqproxy.sync.connect() as mq:`.

Each connection has an event loop in a thread of its own. What `connect` returns, and all that comes from it, shows an
object of the async side, and shows it by what it offers, not method by method: what can be awaited is waited for, an
async iterator is an iterator, an async context manager a context manager, and attributes are the same. So the docs of
the async side hold here, without `async` and `await`.
"""

from .calls import gather, progress, track
from .client import Client, connect

__all__ = ["Client", "connect", "gather", "progress", "track"]
