"""A caller of the random run: `python -m tests.faults.random_caller URL SERVICE JOURNAL SEED RATE`.

It makes calls of all kinds, a few dozen of them at a time, notes each and what becomes of it, and goes on whatever
happens, until SIGTERM. Then it lets its calls end, closes the connection, and notes what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import amqproxy
from tests.faults.journal import Journal
from tests.faults.random_worker import Tortured

CALLING = "calling now"
"""What a caller says when it begins."""
TASKS = 40
"""So many calls, or batches of them, are made at a time; more for higher rates."""
SLOWNESS = 0.5
"""Seconds that a call takes on average, one way or another."""
BATCH = 8
LIMITS = (0.3, 1.0, 3.0, 8.0)
"""Timeouts, in seconds."""
TICK = 0.25
SCHEDSTAT = Path("/proc/self/schedstat")
UNDISTURBED = 0.1
"""Seconds that a turn of the loop may come too late before that is noted."""
PATIENCE = max(LIMITS) + 10.0
"""Seconds after which a caller that is told to stop leaves, whatever hangs."""


class Unheard(amqproxy.CallError):
    """No worker had a value for a broadcast, which may be so, and some may have run it."""


class Caller:
    """Makes calls on one connection."""

    def __init__(self, mq: amqproxy.Client, service: str, journal: Journal, chance: random.Random, name: str) -> None:
        self.stop = asyncio.Event()
        self._mq = mq
        self._service = service
        self._journal = journal
        self._chance = chance
        self._name = name
        self._count = 0
        self._kinds: dict[Callable[[], Awaitable[None]], int] = {
            self._plain: 30,
            self._idempotent: 15,
            self._threaded: 5,
            self._once: 10,
            self._retried: 8,
            self._retried_again: 5,
            self._hedged: 5,
            self._raising: 8,
            self._one_way: 15,
            self._cancelled: 8,
            self._attended: 5,
            self._stream: 6,
            self._fed: 4,
            self._batch: 4,
            self._elsewhere: 8,
            self._broadcast: 2,
        }

    async def run(self, rate: float) -> None:
        """Make so many calls a second, as far as they end, until `stop` is set."""
        tasks = max(TASKS, int(rate * SLOWNESS))
        await asyncio.gather(self._watch_loop(), *(self._go_on(tasks / rate) for _ in range(tasks)))

    async def _go_on(self, pause: float) -> None:
        while not self.stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), self._chance.expovariate(1 / pause))
            kind = self._chance.choices(list(self._kinds), list(self._kinds.values()))[0]
            await kind()

    async def _watch_loop(self) -> None:
        """Note when the loop had no turn for long: no call can end in such a time."""
        loop = asyncio.get_running_loop()
        while not self.stop.is_set():
            began, waited = loop.time(), waited_for_a_processor()
            await asyncio.sleep(TICK)
            late = loop.time() - began - TICK
            if late > UNDISTURBED:
                self._journal.note("stall", seconds=round(late, 3), waited=waited_for_a_processor() - waited)

    def _proxy(self, **options: Any) -> Tortured:
        limit = self._chance.choice(LIMITS)
        return self._mq.proxy(Tortured, name=self._service, timeout=limit, **options)

    def _token(self) -> str:
        self._count += 1
        return f"{self._name}.{self._count}"

    def _while(self) -> float:
        """Seconds that a handler takes: mostly few, sometimes more than its caller has."""
        return self._chance.choice((0.0, 0.0, 0.0, 0.02, 0.1, 0.5, 1.5))

    async def _noted(self, kind: str, token: str, limit: float, call: Callable[[], Awaitable[str]]) -> None:
        """Make a call, and note how it ends."""
        self._journal.note("call", token, kind=kind, limit=limit)
        try:
            value = await call()
        except asyncio.CancelledError:
            self._journal.note("cancelled", token)
        except BaseException as error:
            self._failed(token, error)
        else:
            self._journal.note("ok", token, value=value)

    def _failed(self, token: str, error: BaseException) -> None:
        if isinstance(error, amqproxy.CallError):
            executed, named = error.executed, True
        else:  # the others say by their name that nothing was sent
            executed, named = "no", isinstance(error, amqproxy.BrokerUnavailable)
        kind = type(error).__name__
        self._journal.note("failed", token, error=kind, text=str(error)[:300], executed=executed, named=named)

    def _made(self, kind: str, method: str, **options: Any) -> Awaitable[None]:
        proxy, token, seconds = self._proxy(**options), self._token(), self._while()
        limit = self._limit(proxy)
        return self._noted(kind, token, limit, lambda: getattr(proxy, method)(token, seconds))

    def _limit(self, proxy: Tortured) -> float:
        return float(proxy.echo.timeout)  # type: ignore[attr-defined]  # of the proxy's method

    async def _plain(self) -> None:
        await self._made("plain", "echo")

    async def _idempotent(self) -> None:
        await self._made("idempotent", "again")

    async def _threaded(self) -> None:
        await self._made("plain", "threaded")

    async def _once(self) -> None:
        await self._made("once", "once")

    async def _retried(self) -> None:
        """Sent again only if it did not run."""
        await self._made("retried", "echo", retry=4)

    async def _retried_again(self) -> None:
        await self._made("idempotent", "again", retry=4)

    async def _hedged(self) -> None:
        await self._made("idempotent", "again", hedge=0.2)

    async def _attended(self) -> None:
        await self._made("plain", "echo", heartbeat=0.5)

    async def _cancelled(self) -> None:
        call = asyncio.ensure_future(self._made("cancelled", "echo"))
        await asyncio.wait((call,), timeout=self._chance.random() * 0.3)
        call.cancel()
        await asyncio.wait((call,))

    async def _raising(self) -> None:
        proxy, token, seconds = self._proxy(), self._token(), self._while()

        async def call() -> str:
            try:
                await proxy.fail(token, seconds)
            except ValueError as error:
                assert isinstance(error, amqproxy.RemoteError)
                return error.message
            return "it did not raise"

        await self._noted("raising", token, self._limit(proxy), call)

    async def _one_way(self) -> None:
        token, limit = self._token(), self._chance.choice(LIMITS)
        sender = self._mq.sender(Tortured, name=self._service, timeout=limit)

        async def call() -> str:
            await sender.echo(token, 0.0)
            return ""

        await self._noted("one-way", token, limit, call)

    async def _stream(self) -> None:
        proxy, token, seconds = self._proxy(), self._token(), self._while()

        async def call() -> str:
            return "".join([letter async for letter in proxy.letters(token, seconds)])

        await self._noted("stream", token, self._limit(proxy), call)

    async def _fed(self) -> None:
        proxy, token = self._proxy(), self._token()

        async def letters() -> AsyncIterator[str]:
            for letter in token:
                await asyncio.sleep(0.01)
                yield letter

        await self._noted("fed", token, self._limit(proxy), lambda: proxy.joined(letters(), token))

    async def _batch(self) -> None:
        limit = self._chance.choice(LIMITS)
        async with self._mq.batch(Tortured, name=self._service, timeout=limit) as batch:
            calls = []
            for _ in range(BATCH):
                token, seconds = self._token(), self._while()
                made = batch.echo(token, seconds)
                calls.append(self._noted("batch", token, limit, lambda made=made: made))  # type: ignore[misc]
            await asyncio.gather(*calls)

    async def _elsewhere(self) -> None:
        """Through an exchange, whose calls have a channel of their own."""
        await self._made("plain", "echo", exchange="amq.direct")

    async def _broadcast(self) -> None:
        token, limit = self._token(), self._chance.choice(LIMITS)
        call = self._mq.broadcast(Tortured, name=self._service, timeout=limit).echo

        async def asked() -> str:
            answers = [answer async for answer in call(token, 0.0)]
            given = {str(answer.value) for answer in answers if answer.error is None}
            if not given:
                raise Unheard(f"{len(answers)} workers failed")
            return ", ".join(sorted(given))

        await self._noted("broadcast", token, limit, asked)

    def left(self) -> dict[str, int]:
        """What is kept for calls, when none is out."""
        caller, publishers = self._mq.caller, self._mq.publishers
        lines = [*caller._by_prefix.values(), *publishers._lines._lines.values()]
        return {
            "pending calls": sum(len(line.calls) for line in lines),
            "conversations": sum(len(line.conversations) for line in lines),
            "looks at queues": len(caller._census),
            "untold cancellations": len(caller._untold),
        }


def waited_for_a_processor() -> float:
    """Seconds for which this thread could have run, and others did (proc(5), schedstat)."""
    return int(SCHEDSTAT.read_text().split()[1]) / 1e9


async def main(url: str, service: str, path: Path, seed: str, rate: float) -> int:
    """Call until SIGTERM: 0 if all calls have ended, 3 if some did not."""
    journal = Journal(path)
    before = asyncio.all_tasks()
    async with amqproxy.connect(url) as mq:
        caller = Caller(mq, service, journal, random.Random(seed), path.stem)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, caller.stop.set)
        print(CALLING, flush=True)
        run = asyncio.create_task(caller.run(rate))
        stopped = asyncio.create_task(caller.stop.wait())
        await asyncio.wait((run, stopped), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((run,), timeout=PATIENCE)
        if not run.done():
            return 3
        run.result()
        await mq.caller.finish()
        left = caller.left()
    await asyncio.sleep(0)
    tasks = [task for task in asyncio.all_tasks() - before if "aiormq" not in repr(task)]
    journal.note("left", things={**left, "tasks": len(tasks)})
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], float(sys.argv[5]))))
