"""Messages that nobody waits for: they are in the broker's hands when the sender goes on, and in a worker's later."""

import asyncio

import amqproxy


@amqproxy.serve("letters", auto_delete=True)
class Letters:
    def __init__(self) -> None:
        self.all_read = asyncio.Event()

    async def write(self, text: str) -> None:
        print(text)
        if text.startswith("See you"):
            self.all_read.set()


async def main() -> None:
    letters = Letters()
    async with amqproxy.connect() as mq, mq.serve(letters):
        sender = mq.sender(Letters)
        await sender.write("Dear worker,")  # the broker has it, on disk: what is confirmed is not lost
        later = amqproxy.options(sender, delay=0.5)  # seconds that the broker keeps it back
        await later.write("See you later!")
        await asyncio.gather(*(sender.write(f"{n} bottles") for n in (3, 2, 1)))  # as many at once as you like
        try:
            await mq.sender("no-such-service").write("Is anybody there?")
        except amqproxy.Unroutable as error:
            print("Nobody ever served that:", error.executed)
        await letters.all_read.wait()


if __name__ == "__main__":
    asyncio.run(main())
