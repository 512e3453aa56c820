"""Ask all workers of a pool, or tell them something: here two caches, of which each has entries of its own."""

import asyncio

import amqproxy


@amqproxy.serve("caches", auto_delete=True)
class Cache:
    def __init__(self, **entries: str) -> None:
        self.entries = entries
        self.changed = asyncio.Event()

    async def size(self) -> int:
        return len(self.entries)

    async def find(self, key: str) -> str:
        if key not in self.entries:
            raise amqproxy.RemoteError(f"no {key} here", code="not_found")
        return self.entries[key]

    async def forget(self, key: str) -> None:
        self.entries.pop(key, None)
        self.changed.set()


async def main() -> None:
    hot, cold = Cache(tea="black", coffee="strong"), Cache(cola="sweet")
    async with amqproxy.connect() as mq, mq.serve(hot), mq.serve(cold):
        caches = mq.broadcast(Cache)

        async for answer in caches.find("tea"):  # as they come: each has a worker, and a value or an error
            print(answer.value if answer.error is None else answer.error)

        answers = await caches.size()  # or all of them, when all workers have answered
        print(sum(answer.result() for answer in answers), "entries in", len(answers), "caches")

        print("cola is", await caches.find("cola").first())  # the first value; errors do not count

        await mq.sender(Cache, everyone=True).forget("tea")  # and this, nobody answers
        await asyncio.gather(hot.changed.wait(), cold.changed.wait())
        print(sum([answer.result() async for answer in caches.size()]), "entries are left")


if __name__ == "__main__":
    asyncio.run(main())
