"""Messages whose class names other languages share: the form of the original Akka AMQP proxies."""

import asyncio
from dataclasses import dataclass

import amqproxy


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$AddRequest")
@dataclass
class AddRequest:
    x: int
    y: int


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$AddResponse")
@dataclass
class AddResponse:
    x: int
    y: int
    sum: int


@amqproxy.serve("shared-calculator", auto_delete=True)
class Calculator:
    async def add(self, request: AddRequest) -> AddResponse:
        return AddResponse(request.x, request.y, request.x + request.y)


async def main() -> None:
    async with amqproxy.connect() as mq, mq.serve(Calculator()):
        calc = mq.proxy(Calculator)
        print(await calc.add(AddRequest(1, 2)))
        print(await mq.proxy("shared-calculator")(AddRequest(3, 4)))


if __name__ == "__main__":
    asyncio.run(main())
