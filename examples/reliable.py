"""Calls that must not fail: they are tried again, run once, and sent twice when they are slow."""

import asyncio
import logging

import amqproxy


@amqproxy.serve("bank", auto_delete=True, deduplicate=10_000)  # what comes again is answered, and not run again
class Bank:
    def __init__(self) -> None:
        self.balance = 100

    @amqproxy.method(idempotent=True)  # which it is by the line above, as long as there is one worker
    async def deposit(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    @amqproxy.method(at_most_once=True)  # rather not at all than twice
    async def pay(self, amount: int) -> int:
        self.balance -= amount
        return self.balance


@amqproxy.serve("quotes", auto_delete=True)
class Quotes:
    def __init__(self) -> None:
        self.calls = 0

    @amqproxy.method(idempotent=True)
    async def price(self, share: str) -> int:
        self.calls += 1
        if self.calls == 1:
            await asyncio.Event().wait()  # it hangs, as things do
        return 42


async def main() -> None:
    async with amqproxy.connect() as mq:
        bank = mq.proxy(Bank, retry=amqproxy.Retry(attempts=20, wait=0.1, max_wait=0.5))
        early = asyncio.create_task(bank.deposit(5))  # nobody serves it yet
        await asyncio.sleep(0.1)
        async with mq.serve(Bank()), mq.serve(Quotes()):
            print("balance:", await early)
            print("balance:", await bank.pay(30))
            quotes = mq.proxy(Quotes, hedge=0.2)  # seconds until a second request is sent
            print("price:", await quotes.price("ACME"))

        nobody = mq.proxy("no-such-service", middleware=[amqproxy.breaker(failures=3, seconds=60)])
        for _ in range(4):
            try:
                await nobody.ping()
            except amqproxy.CallError as error:
                print(type(error).__name__, "executed:", error.executed)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)  # or a warning tells that the breaker opened
    asyncio.run(main())
