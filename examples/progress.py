"""How far a call is: in a loop, by a callback, as a bar; and a worker that dies is missed within seconds."""

import asyncio
import time

import amqproxy


@amqproxy.serve("trainer", auto_delete=True)
class Trainer:
    @amqproxy.method(heartbeat=1)  # its callers miss a worker that dies or hangs within three seconds
    async def train(self, rounds: int) -> str:
        for done in range(rounds):
            amqproxy.current().progress(done, rounds, "training")
            await asyncio.sleep(0.1)
        amqproxy.current().progress(rounds, rounds, "saving")
        return f"a model of {rounds} rounds"

    def compress(self, size: int) -> int:  # a plain function runs in a thread, and tells as well
        for done in range(0, size, 10):
            amqproxy.current().progress(done, size)
            time.sleep(0.05)
        return size // 2


async def main() -> None:
    async with amqproxy.connect() as mq, mq.serve(Trainer()):
        trainer = mq.proxy(Trainer)

        watched = amqproxy.progress(trainer.train(5))
        async for update in watched:  # leaving the loop would cancel the call
            print(f"{update.done} of {update.total}: {update.note}")
        print(watched.result)

        print(await amqproxy.progress(trainer.train(3), lambda update: None))
        print(await amqproxy.track(trainer.train(10), "training"))  # a bar, in a terminal or a notebook


if __name__ == "__main__":
    asyncio.run(main())
