"""Calls of every kind that are given up at random moments, and what both ends have left when they are gone."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import amqproxy
from amqproxy import Blob
from amqproxy.server import Worker

PATIENCE = 0.03
"""Seconds after which the most patient callers have gone; a call that is let run ends within half of them."""
MEMORY = 1.0
"""The timeout of all calls in seconds, for so long workers remember those that they have not seen."""
LIMITS = (0.002, 0.005, 0.01, 0.02)
"""Timeouts that are there to be too short, in seconds."""


@amqproxy.serve("bench.tireless", auto_delete=True)
class Tireless:
    """Goes on until it is told to stop, in all ways, and counts what it has open."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        """Who serves this, for `left`."""
        self._open = 0
        self._lock = threading.Lock()

    def _opened(self, change: int) -> None:
        with self._lock:
            self._open += change

    async def nap(self, seconds: float) -> float:
        """Sleep."""
        await asyncio.sleep(seconds)
        return seconds

    def nap_in_thread(self, seconds: float) -> float:
        """Sleep, and look now and then whether anybody waits."""
        call, end = amqproxy.current(), time.monotonic() + seconds
        while not call.cancelled and time.monotonic() < end:
            time.sleep(0.001)
        return seconds

    async def rows(self) -> AsyncIterator[int]:
        """Yield without end."""
        self._opened(1)
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            await asyncio.sleep(0)
            self._opened(-1)

    def rows_in_thread(self) -> Iterator[int]:
        """Yield without end."""
        self._opened(1)
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            self._opened(-1)

    async def total(self, numbers: AsyncIterator[int]) -> int:
        """Add up what comes."""
        self._opened(1)
        try:
            return sum([number async for number in numbers])
        finally:
            self._opened(-1)

    def total_in_thread(self, numbers: Iterator[int]) -> int:
        """Add up what comes."""
        self._opened(1)
        try:
            return sum(numbers)
        finally:
            self._opened(-1)

    async def chat(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        """Double what comes."""
        self._opened(1)
        try:
            async for number in numbers:
                yield 2 * number
        finally:
            self._opened(-1)

    async def file(self) -> Blob:
        """Give bytes without end."""
        return Blob(self._chunks())

    async def _chunks(self) -> AsyncIterator[bytes]:
        self._opened(1)
        try:
            while True:
                yield b"chunk"
        finally:
            self._opened(-1)

    async def left(self) -> dict[str, int]:
        """What this worker has besides this call."""
        assert self.worker is not None
        session = self.worker._session
        assert session is not None
        return {
            "running": len(self.worker.running) - 1,
            "streams": len(session.streams),
            "unsettled": len(session._lane._acks._out) - 1,
            "open": self._open,
            "remembered": len(self.worker.abandoned.until),
            "tasks": len(asyncio.all_tasks()) - 1,
            "timers": timers(),
        }


def timers() -> int:
    """Timers of this event loop that are set."""
    loop: Any = asyncio.get_running_loop()
    return sum(not handle.cancelled() for handle in loop._scheduled)


class Crowd:
    """Callers that lose their patience."""

    def __init__(self, mq: amqproxy.Client, proxy: Any, seed: int) -> None:
        """Call through `proxy`, a `Tireless` known by its class; `seed` decides who does what when."""
        self.came = Counter[str]()
        """What became of the calls."""
        self._mq = mq
        self._proxy = amqproxy.options(proxy, timeout=MEMORY)
        self._limited = [amqproxy.options(proxy, timeout=limit) for limit in LIMITS]
        self._random = random.Random(seed)
        self._open = 0

    async def run(self, calls: int, at_once: int) -> None:
        """Make so many calls, so many of them at a time."""
        places = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with places:
                self.came[await self._one()] += 1

        await asyncio.gather(*(one() for _ in range(calls)))

    async def _one(self) -> str:
        moment = self._random.uniform(0, PATIENCE)
        way = self._random.choice((self._by_cancelling, self._by_cancelling, self._by_a_timeout, self._by_its_own))
        try:
            await way(self._random.choice(KINDS), moment)
        except asyncio.CancelledError:
            return "cancelled"
        except amqproxy.CallTimeout:
            return "timed out"
        except TimeoutError:
            return "left"
        except amqproxy.RemoteError as error:
            if error.code != "deadline_exceeded":  # which a worker may have said first
                raise
            return "timed out"
        return "done"

    async def _by_cancelling(self, kind: "Kind", moment: float) -> None:
        task = asyncio.ensure_future(kind(self, self._proxy))
        asyncio.get_running_loop().call_later(moment, task.cancel)
        await task

    async def _by_a_timeout(self, kind: "Kind", moment: float) -> None:
        async with asyncio.timeout(moment):
            await kind(self, self._proxy)

    async def _by_its_own(self, kind: "Kind", _moment: float) -> None:
        await kind(self, self._random.choice(self._limited))

    async def _nap(self, proxy: Any) -> None:
        await proxy.nap(self._random.uniform(0, PATIENCE / 2))

    async def _nap_in_thread(self, proxy: Any) -> None:
        await proxy.nap_in_thread(self._random.uniform(0, PATIENCE / 2))

    async def _read(self, proxy: Any) -> None:
        enough = self._random.randrange(2000)
        async for number in proxy.rows():
            if number == enough:
                break

    async def _read_from_thread(self, proxy: Any) -> None:
        async with proxy.rows_in_thread() as rows:
            async for _ in rows:
                pass

    async def _feed(self, proxy: Any) -> None:
        await proxy.total(self._numbers())

    async def _feed_a_thread(self, proxy: Any) -> None:
        await proxy.total_in_thread(self._numbers())

    async def _chat(self, proxy: Any) -> None:
        async for _ in proxy.chat(self._numbers()):
            pass

    async def _fetch(self, proxy: Any) -> None:
        async for _ in await proxy.file():
            pass

    async def _numbers(self) -> AsyncIterator[int]:
        self._open += 1
        try:
            for number in range(self._random.randrange(500)):
                yield number
                if number % 50 == 0:
                    await asyncio.sleep(0)
            if self._random.random() < 0.5:
                await asyncio.Event().wait()
        finally:
            self._open -= 1

    def left(self) -> dict[str, int]:
        """What the caller has left."""
        caller = self._mq.caller
        lines = list(caller._by_prefix.values())
        link = caller.connection.current_link
        assert link is not None
        for line in lines:
            line.calls.next_expiry()  # which lets go of the moments at which nothing would have expired
        return {
            "calls": sum(len(line.calls._pending) + len(line.calls._ticks) for line in lines),
            "conversations": sum(len(line.conversations) for line in lines),
            "untold": len(caller._untold) + len(caller._telling) + len(caller._census),
            "open": self._open,
            "tasks": len(asyncio.all_tasks()) - 1,
            "timers": timers(),
            "channels": len(link._aiormq.channels),
        }


Kind = Callable[[Crowd, Any], Awaitable[None]]
KINDS: tuple[Kind, ...] = (
    *(Crowd._nap, Crowd._nap_in_thread, Crowd._read, Crowd._read_from_thread),
    *(Crowd._feed, Crowd._feed_a_thread, Crowd._chat, Crowd._fetch),
)
LOOSE = {"tasks": 2, "timers": 5}
"""Of these there may be a few more or less: heartbeats of the connection, say."""


def difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What is there more than before."""
    return {name: after[name] - before[name] for name in before if after[name] - before[name] > LOOSE.get(name, 0)}
