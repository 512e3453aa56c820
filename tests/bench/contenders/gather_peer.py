"""amqproxy's `gather` as its users use it: `window` calls at once, again and again."""

import amqproxy

from .. import control
from ..load import Y, filler_for, numbered
from ..plan import SMALL, Run
from .amqproxy_peer import Calculator
from .batch_peer import Block, answer_runs, check, check_texts, worker


def gathered(mq: amqproxy.Client, queue: str) -> Block:
    """Blocks that are `await amqproxy.gather(…)`."""
    calculator = mq.proxy(Calculator, name=queue)

    async def block(run: Run, numbers: range) -> None:
        if run.size == SMALL:
            check(await amqproxy.gather(calculator.add(number, Y) for number in numbers), numbers)
        else:
            filler = filler_for(run.size)
            texts = await amqproxy.gather(calculator.echo(numbered(number, filler)) for number in numbers)
            check_texts(texts, numbers, filler)

    return block


async def caller(queue: str) -> None:
    """Call by gather."""
    async with amqproxy.connect(control.url()) as mq:
        await answer_runs(gathered(mq, queue))


if __name__ == "__main__":
    control.async_main(caller, worker)
