"""A deadline for a whole piece of work: every call takes from it, and so do the calls that handlers make."""

import asyncio

import amqproxy


@amqproxy.serve("warehouse", auto_delete=True)
class Warehouse:
    async def reserve(self, item: str, seconds: float) -> str:
        left = amqproxy.current().time_left or 0.0
        print(f"the warehouse has {left:.1f} s left")
        await asyncio.sleep(seconds)  # cancelled when the caller waits no more
        return f"{item} is reserved"


@amqproxy.serve("orders", auto_delete=True)
class Orders:
    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    async def place(self, item: str, seconds: float) -> str:
        """Whatever this calls inherits what is left of our caller's time."""
        reserved = await self._warehouse.reserve(item, seconds)
        with amqproxy.deadline(None):  # but not what goes on behind our answer
            self._audit = asyncio.create_task(self._warehouse.reserve("paper", 0))
        return reserved


async def main() -> None:
    async with amqproxy.connect() as mq, mq.serve(Warehouse()), mq.serve(Orders(mq.proxy(Warehouse))):
        orders = mq.proxy(Orders)
        with amqproxy.deadline(5) as within:
            print(await orders.place("tea", 0.5))
            print(f"{within.left:.1f} s are left for another order")
            print(await orders.place("coffee", 0.5))
        try:
            with amqproxy.deadline(0.5):
                await orders.place("cocoa", 60)
        except amqproxy.CallTimeout as error:
            print("in vain:", error)


if __name__ == "__main__":
    asyncio.run(main())
