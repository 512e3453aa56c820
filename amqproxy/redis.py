"""Replies that the workers of a pool keep together in Redis: `pip install amqproxy[redis]`.

store = amqproxy.redis.RedisStore("redis://localhost")
mq.serve(Accounts(), deduplicate=amqproxy.Deduplication(store=store))
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Scripts:
    """A client with the scripts that it runs."""

    client: Redis
    claim: Any
    keep: Any
    release: Any

    @classmethod
    def of(cls, client: Redis) -> Scripts:
        """Those of a client."""
        return cls(client, *(client.register_script(text) for text in (CLAIM, KEEP, RELEASE)))


class RedisStore:
    """A store of replies in one Redis, version 2.6 or newer."""

    def __init__(self, redis: str | Redis, *, prefix: str = "amqproxy:") -> None:
        """Take the URL of a Redis, or a client of one; what `prefix` begins is ours in there.

        A URL is connected to when it is needed, by each event loop that needs it; a client is for the one event loop
        that it was made for. The Redis should not evict keys that have not expired (`maxmemory-policy noeviction` or
        `volatile-ttl`), or calls may run twice.
        """
        client = _client(redis) if isinstance(redis, str) else redis
        if client.connection_pool.connection_kwargs.get("decode_responses"):
            raise ValueError("replies are bytes: give a Redis client without decode_responses")
        self._url = redis if isinstance(redis, str) else None
        self._given = Scripts.of(client)
        self._of_loops: dict[asyncio.AbstractEventLoop, Scripts] = {}
        self._prefix = prefix

    @property
    def _scripts(self) -> Scripts:
        """Those of a client whose connections are the running event loop's: no other can use them."""
        if self._url is None:
            return self._given
        loop = asyncio.get_running_loop()
        scripts = self._of_loops.get(loop)
        if scripts is None:
            for other in [other for other in list(self._of_loops) if other.is_closed()]:
                self._of_loops.pop(other, None)  # another thread's loop may do so, too
            scripts = self._of_loops[loop] = Scripts.of(Redis.from_url(self._url))
        return scripts

    async def claim(self, key: str, owner: str, seconds: float) -> bytes | bool:
        """See `amqproxy.Store`."""
        args = [b"c" + owner.encode(), _milliseconds(seconds)]
        found: Any = await self._scripts.claim(keys=[self._prefix + key], args=args)
        return bool(found) if isinstance(found, int) else bytes(found[1:])

    async def keep(self, key: str, owner: str, reply: bytes, seconds: float) -> None:
        """See `amqproxy.Store`."""
        await self._scripts.keep(keys=[self._prefix + key], args=[b"r" + reply, _milliseconds(seconds)])

    async def release(self, key: str, owner: str) -> None:
        """See `amqproxy.Store`."""
        await self._scripts.release(keys=[self._prefix + key], args=[b"c" + owner.encode()])

    async def aclose(self) -> None:
        """Close the connections of the event loop that this runs in, if they were made from a URL."""
        scripts = self._of_loops.pop(asyncio.get_running_loop(), None)
        if scripts is not None:
            await scripts.client.aclose()

    async def __aenter__(self) -> RedisStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<RedisStore {self._prefix}>"


def _client(url: str) -> Redis:
    """A client for a URL; ValueError, which does not quote it, if it makes no sense."""
    try:
        return Redis.from_url(url)
    except ValueError:
        text = "the Redis URL does not parse, which is like redis://user:password@host:6379/0"
        raise ValueError(f"{text}; in a password write %2F, %3F, %23 and %40 for the letters /, ?, # and @") from None


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
