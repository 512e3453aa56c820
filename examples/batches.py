"""Many small calls in few messages."""

import asyncio
import math

import amqproxy


@amqproxy.serve("sums", auto_delete=True)
class Sums:
    async def add(self, x: int, y: int) -> int:
        return x + y

    async def root(self, x: int) -> float:
        if x < 0:
            raise amqproxy.RemoteError(f"{x} has no root", code="invalid_argument")
        return math.sqrt(x)


async def main() -> None:
    async with amqproxy.connect() as mq, mq.serve(Sums()):
        sums = mq.proxy(Sums)
        print(sum(await amqproxy.gather(sums.add(n, n) for n in range(1000))))

        async with mq.batch(Sums) as batch:  # calls are made at once, and awaited whenever you like
            total, root, no_root = batch.add(1, 2), batch.root(9), batch.root(-1)
            print(await total, await root)
            try:
                await no_root
            except amqproxy.RemoteError as error:  # each call has its own answer
                print(error.message)


if __name__ == "__main__":
    asyncio.run(main())
