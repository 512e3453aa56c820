"""How workers tell a call that comes again from a new one: what is remembered, for how long, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .bounds import check_count, check_positive


@runtime_checkable
class Store(Protocol):
    """Where the workers of a pool keep their replies together; `amqproxy.redis.RedisStore` is one.

    What it raises has the call refused, before it runs; or is logged, after that.
    """

    async def claim(self, key: str, owner: str, seconds: float) -> bytes | bool:
        """Claim a call for so many seconds, for one of all who try: whether it is the owner's now, or its reply.

        True if nobody had claimed it, the time of who had is over, or it was this owner, whose time begins anew; False
        if it is somebody else's. Once a reply is kept, it is that.
        """

    async def keep(self, key: str, owner: str, reply: bytes, seconds: float) -> None:
        """Keep the reply to a call for so many seconds; if there is one already, that stays."""

    async def release(self, key: str, owner: str) -> None:
        """Give up a claim: the call was not run. Nothing happens if it is not the owner's."""


def fingerprint(body: bytes) -> bytes:
    """What a request's body is told apart from others by."""
    from hashlib import blake2b  # which whoever needs no fingerprints need not wait for

    return blake2b(body, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Deduplication:
    """How a worker answers a request that it has seen: as the first time, without running it again.

    Requests are the same that have the same message-id, method, encoding and body; those without a message-id are
    always new. Streams are not told apart.
    """

    entries: int = 10_000
    """So many calls are remembered at most, the latest."""
    seconds: float = 600.0
    """For so long."""
    max_bytes: int = 64 * 1024 * 1024
    """So many bytes their replies have together at most, in the worker's memory."""
    store: Store | None = None
    """Where the pool remembers together; default: each worker for itself alone."""
    lease: float = 5.0
    """Seconds after which a worker that said nothing counts as lost, and another may run a call that it had claimed in
    the store. It says so three times as often while it runs it."""

    def __post_init__(self) -> None:
        check_count("entries", self.entries)
        check_positive("seconds", self.seconds)
        check_count("max_bytes", self.max_bytes)
        check_positive("lease", self.lease)
        if self.store is not None and not (isinstance(self.store, Store) and not isinstance(self.store, type)):
            raise TypeError(f"store has the methods of amqproxy.Store, and {self.store!r} has not")

    @classmethod
    def of(cls, given: Any) -> Deduplication:
        """What an option means: a number of entries, or all of it."""
        if isinstance(given, cls):
            return given
        if type(given) is not int:
            raise TypeError(f"deduplicate is a number of calls or an amqproxy.Deduplication, not {given!r}")
        return cls(entries=given)
