"""amqproxy as its users use it: a class with a decorator, served in one process and called in another."""

import amqproxy

from .. import control, load
from ..plan import PREFETCH


@amqproxy.serve("bench.calculator", concurrency=PREFETCH)
class Calculator:
    """The contract, and the worker."""

    async def add(self, x: int, y: int) -> int:
        """Return the sum."""
        return x + y

    async def echo(self, text: str) -> str:
        """Return the text."""
        return text


async def caller(queue: str) -> None:
    """Call through a typed proxy. The contract names the queue, so `queue` is not needed."""
    async with amqproxy.connect(control.url()) as mq:
        control.ready(control.version_of("amqproxy"))
        await load.answer_runs(mq.proxy(Calculator))


async def worker(queue: str) -> None:
    """Serve until the bench closes the pipe."""
    async with amqproxy.connect(control.url()) as mq, mq.serve(Calculator()):
        control.ready(control.version_of("amqproxy"))
        await control.closed()


if __name__ == "__main__":
    control.async_main(caller, worker)
