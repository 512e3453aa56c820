"""amqproxy in one encoding: echoes of a person whose name is as long as the body is to be."""

import functools

import amqproxy

from .. import control, load
from ..people import People, form_of, person, prose
from ..plan import PREFETCH


class Echo:
    """What the load calls, by way of people."""

    def __init__(self, people: People, encoding: str) -> None:
        self._call = getattr(people, form_of(encoding))
        self._encoding = encoding
        self._prose = functools.cache(prose)

    async def add(self, x: int, y: int) -> int:
        """Return the sum, of which the call carries one summand."""
        return int((await self._call(person(self._encoding, x, ""))).id) + y

    async def echo(self, text: str) -> str:
        """Return the text, if what travelled in its place came back."""
        size = len(text)
        name = text[:12] + self._prose(size)[12:]
        answer = await self._call(person(self._encoding, 1, name))
        return text if answer.name == name else answer.name


async def caller(queue: str) -> None:
    """Call in the encoding of the command line."""
    encoding = control.encoding()
    async with amqproxy.connect(control.url()) as mq:
        control.ready(control.version_of("amqproxy"))
        await load.answer_runs(Echo(mq.proxy(People, name=queue, encoding=encoding), encoding))


async def worker(queue: str) -> None:
    """Serve until the bench closes the pipe."""
    async with amqproxy.connect(control.url()) as mq, mq.serve(People(), name=queue, concurrency=PREFETCH):
        control.ready(control.version_of("amqproxy"))
        await control.closed()


if __name__ == "__main__":
    control.async_main(caller, worker)
