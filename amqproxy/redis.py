"""Replies that the workers of a pool keep together in Redis: `pip install amqproxy[redis]`.

store = amqproxy.redis.RedisStore("redis://localhost")
mq.serve(Accounts(), deduplicate=amqproxy.Deduplication(store=store))
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

try:
    from redis.asyncio import Redis
except ImportError as error:
    raise ImportError("replies are kept in Redis with the extra of that name: pip install amqproxy[redis]") from error

# A value is the owner of a claim behind a c, or a reply behind an r. A script is one step for all who ask.
CLAIM = """
local value = redis.call('GET', KEYS[1])
if value and string.sub(value, 1, 1) == 'r' then return value end
if value and value ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
KEEP = """
local value = redis.call('GET', KEYS[1])
if value and string.sub(value, 1, 1) == 'r' then return end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
"""
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


class RedisStore:
    """A store of replies in one Redis, version 2.6 or newer."""

    def __init__(self, redis: str | Redis, *, prefix: str = "amqproxy:") -> None:
        """Take the URL of a Redis, or a client of one; what `prefix` begins is ours in there.

        A URL is connected to when it is needed, in the event loop that needs it. Its Redis should not evict keys that
        have not expired (`maxmemory-policy noeviction` or `volatile-ttl`), or calls may run twice.
        """
        self._own = isinstance(redis, str)
        client = Redis.from_url(redis) if isinstance(redis, str) else redis
        if client.connection_pool.connection_kwargs.get("decode_responses"):
            raise ValueError("replies are bytes: give a Redis client without decode_responses")
        self._client = client
        self._prefix = prefix
        self._claim = client.register_script(CLAIM)
        self._keep = client.register_script(KEEP)
        self._release = client.register_script(RELEASE)

    async def claim(self, key: str, owner: str, seconds: float) -> bytes | bool:
        """See `amqproxy.Store`."""
        found: Any = await self._claim(keys=[self._prefix + key], args=[b"c" + owner.encode(), _milliseconds(seconds)])
        return bool(found) if isinstance(found, int) else bytes(found[1:])

    async def keep(self, key: str, owner: str, reply: bytes, seconds: float) -> None:
        """See `amqproxy.Store`."""
        await self._keep(keys=[self._prefix + key], args=[b"r" + reply, _milliseconds(seconds)])

    async def release(self, key: str, owner: str) -> None:
        """See `amqproxy.Store`."""
        await self._release(keys=[self._prefix + key], args=[b"c" + owner.encode()])

    async def aclose(self) -> None:
        """Close the connections, if they were made from a URL."""
        if self._own:
            await self._client.aclose()

    async def __aenter__(self) -> RedisStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<RedisStore {self._prefix}>"


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
