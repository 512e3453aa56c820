import asyncio

from calculator import Calculator

import amqproxy


async def main() -> None:
    async with amqproxy.connect() as mq:  # AMQPROXY_URL, else amqp://guest:guest@localhost/
        calc = mq.proxy(Calculator)  # your editor and mypy see a Calculator
        print(await calc.add(1, 2))
        print(await asyncio.gather(*(calc.add(n, n) for n in range(5))))  # as many at once as you like
        try:
            await mq.proxy("calculator", timeout=2).divide(1, 0)  # without the class, by its name
        except ZeroDivisionError as error:
            print("as if it were local:", error)


asyncio.run(main())
