"""Streams: from a worker, to a worker, and both ways at once.

amqproxy serve streams:Numbers
"""

import asyncio
from collections.abc import AsyncIterator

import amqproxy


@amqproxy.serve("numbers")
class Numbers:
    async def count(self, to: int) -> AsyncIterator[int]:
        try:
            for number in range(to):
                yield number
        finally:
            print("count has ended")

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def doubled(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield 2 * number

    async def who(self) -> str:
        return amqproxy.current().worker


async def odd(to: int) -> AsyncIterator[int]:
    for number in range(1, to, 2):
        yield number


async def main() -> None:
    async with amqproxy.connect() as mq, mq.serve(Numbers()):
        numbers = mq.proxy(Numbers)

        async for number in numbers.count(10**9):  # 256 items are on their way at most, however slow this loop is
            if number == 3:
                break  # which stops the worker

        print(await numbers.total(odd(10)))

        async for number in numbers.doubled(odd(10)):
            print(number)


if __name__ == "__main__":
    asyncio.run(main())
