"""Requests that fail for good are kept with the reason, looked at, and tried again when the mistake is mended."""

import asyncio
import sys

import amqproxy


@amqproxy.serve("example.mailer", quorum=True, delivery_limit=5)
class Mailer:
    def __init__(self) -> None:
        self.addresses = {"ann": "ann@example.com"}

    async def welcome(self, name: str) -> None:
        print("welcome,", self.addresses[name], flush=True)


async def dead(*command: str) -> None:
    """Do what is typed as `amqproxy dead`."""
    program = await asyncio.create_subprocess_exec(sys.executable, "-m", "amqproxy", "dead", *command)
    await program.wait()


async def main() -> None:
    mailer = Mailer()
    async with amqproxy.connect() as mq, mq.serve(mailer):
        sender = mq.sender(Mailer)
        await sender.welcome("ann")
        await sender.welcome("bob")  # nobody waits for an answer: the failure must go somewhere
        await asyncio.sleep(1)
        await dead("list", "example.mailer")
        mailer.addresses["bob"] = "bob@example.com"
        await dead("requeue", "example.mailer")
        await asyncio.sleep(1)
        await dead("list", "example.mailer")


asyncio.run(main())
