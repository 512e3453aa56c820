"""aio-pika's RPC pattern as documented: robust connection, default channel; JSON in place of pickle."""

import aio_pika
from aio_pika.patterns import RPC, JsonRPC

from .. import control, load


class Calculator:
    """The caller's side: turns the bench's calls into calls of the pattern."""

    def __init__(self, rpc: RPC, queue: str) -> None:
        """`queue` is the prefix of the two method queues."""
        self._rpc = rpc
        self._add = f"{queue}.add"
        self._echo = f"{queue}.echo"

    async def add(self, x: int, y: int) -> int:
        """Return the sum."""
        total: int = await self._rpc.call(self._add, {"x": x, "y": y})
        return total

    async def echo(self, text: str) -> str:
        """Return the text."""
        same: str = await self._rpc.call(self._echo, {"text": text})
        return same


async def add(*, x: int, y: int) -> int:
    """Return the sum; the pattern passes keyword arguments only."""
    return x + y


async def echo(*, text: str) -> str:
    """Return the text."""
    return text


async def caller(queue: str, *, confirms: bool = True) -> None:
    """Call until the bench closes the pipe."""
    async with await aio_pika.connect_robust(control.url()) as connection:
        channel = await connection.channel(publisher_confirms=confirms)
        rpc = await JsonRPC.create(channel)
        control.ready(control.version_of("aio-pika"))
        await load.answer_runs(Calculator(rpc, queue))


async def worker(queue: str, *, confirms: bool = True) -> None:
    """Serve until the bench closes the pipe."""
    async with await aio_pika.connect_robust(control.url()) as connection:
        channel = await connection.channel(publisher_confirms=confirms)
        rpc = await JsonRPC.create(channel)
        await rpc.register(f"{queue}.add", add, auto_delete=True)
        await rpc.register(f"{queue}.echo", echo, auto_delete=True)
        control.ready(control.version_of("aio-pika"))
        await control.closed()


if __name__ == "__main__":
    control.async_main(caller, worker)
