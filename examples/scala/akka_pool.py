"""A worker for a pool of the Akka AMQP proxies, and calls to their actors.

amqproxy serve akka_pool:Calculator    # joins the pool
python akka_pool.py [URL [SERVICE]]    # calls whoever is in it
"""

import asyncio
import sys
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


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$DivideRequest")
@dataclass
class DivideRequest:
    x: int
    y: int


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$DivideResponse")
@dataclass
class DivideResponse:
    quotient: float


# The options are those of the pool's other members: queue, failures, second tries.
@amqproxy.serve("calculator", durable=False, auto_delete=True, requeue_once=True, failure_details=False)
class Calculator:
    async def add(self, request: AddRequest) -> AddResponse:
        return AddResponse(request.x, request.y, request.x + request.y)

    async def divide(self, request: DivideRequest) -> DivideResponse:
        return DivideResponse(request.x / request.y)


async def main(url: str | None = None, service: str = "calculator") -> None:
    async with amqproxy.connect(url) as mq:
        calc = mq.proxy(Calculator, routing_key=service, timeout=10)
        response = await calc.add(AddRequest(1, 2))
        print("1 + 2 =", response.sum)
        try:
            await calc.divide(DivideRequest(1, 0))
        except amqproxy.RemoteError as error:
            print("1 / 0:", error.message)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
