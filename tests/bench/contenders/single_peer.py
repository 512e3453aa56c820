"""amqproxy with single calls, served by the worker that serves batches, too."""

import amqproxy

from .. import control, load
from .amqproxy_peer import Calculator
from .batch_peer import worker


async def caller(queue: str) -> None:
    """Call through a typed proxy."""
    async with amqproxy.connect(control.url()) as mq:
        control.ready(control.version_of("amqproxy"))
        await load.answer_runs(mq.proxy(Calculator, name=queue))


if __name__ == "__main__":
    control.async_main(caller, worker)
